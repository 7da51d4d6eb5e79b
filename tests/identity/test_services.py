import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.identity import services
from gateway.identity.credentials import service_token_hash
from gateway.identity.services import NewToken


def create(world, name="ci", **wanted):
    return services.create(world.store, NewToken(name, **wanted), world.keys.session, world.clock, world.entropy)


def test_create(world) -> None:
    created = create(world, "Build Server", grants=frozenset({Grant("support", "*")}), expires_in=3600.0)
    secret = created.secret.reveal()
    assert service_token_hash(world.keys.session, secret) == created.token.token_hash
    assert (created.token.name, created.token.expires_at) == ("build server", world.clock.now() + 3600)
    assert services.listing(world.store) == (created.token,)
    assert secret not in repr(created)
    assert secret.encode() not in b"".join(path.read_bytes() for path in (world.state_dir / "store").iterdir())


def test_tokens_of_one_account_have_one_identity(world) -> None:
    first, second = create(world, "ci"), create(world, " CI ")
    assert first.token.account == second.token.account
    assert first.token.id != second.token.id


def test_revoke_one_or_all(world) -> None:
    first, second, third = create(world), create(world), create(world)
    assert [token.id for token in services.revoke(world.store, first.token.id, world.clock)] == [first.token.id]
    assert services.revoke(world.store, first.token.id, world.clock) == ()
    assert {token.id for token in services.revoke(world.store, "CI", world.clock)} == {second.token.id, third.token.id}
    assert all(token.revoked_at is not None for token in services.listing(world.store))


def test_what_can_t_be(world) -> None:
    with pytest.raises(Conflict):
        create(world, "a\u200b")
    with pytest.raises(NotFound):
        create(world, grants=frozenset({Grant("support", "nowhere")}))
    for unknown in ("tok_x", "nobody", ""):
        with pytest.raises(NotFound):
            services.revoke(world.store, unknown, world.clock)
    assert services.listing(world.store) == ()
