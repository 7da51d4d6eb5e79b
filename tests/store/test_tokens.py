from dataclasses import replace

import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.store import tenants, tokens
from gateway.store.tokens import Account, ServiceToken


@pytest.mark.parametrize("applications", [None, frozenset(), frozenset({"orders"}), frozenset({"orders", "billing"})])
def test_a_token_comes_back_as_it_went_in(store, world, applications):
    account = Account("svc_1", "ci", world.now)
    held = frozenset({Grant("gateway.metrics", "-"), Grant("support", "*", world.now + 60)})
    token = ServiceToken("tok_1", "svc_1", "ci", world.hashed("t"), applications, world.now, world.now + 9, None, held)
    store.run(lambda c: tokens.add_account(c, account))
    store.run(lambda c: tokens.create(c, token))
    assert store.read(lambda c: tokens.account(c, "ci")) == account
    assert store.read(lambda c: tokens.get(c, "tok_1")) == token
    assert store.read(lambda c: tokens.get(c, token.id)) == token
    assert store.read(tokens.listing) == (token,)


def test_an_account_has_one_name_and_several_tokens(store, world):
    world.token("tok_1", "a@-")
    world.token("tok_2", "b@-")
    with pytest.raises(Conflict, match="exists"):
        store.run(lambda c: tokens.add_account(c, Account("svc_other", "ci", world.now)))
    first, second = store.read(tokens.listing)
    assert (first.account, first.grants) == (second.account, {Grant("a", "-")})
    assert second.grants == {Grant("b", "-")}


def test_a_revoked_token_is_there_for_its_id_only(store, world):
    token = world.token()
    assert store.run(lambda c: tokens.revoke(c, token, world.now + 1)) is True
    assert store.run(lambda c: tokens.revoke(c, token, world.now + 2)) is False
    assert store.read(lambda c: tokens.get(c, token)).revoked_at == world.now + 1
    assert store.read(lambda c: tokens.unrevoked(c)) == ()
    with pytest.raises(NotFound):
        store.run(lambda c: tokens.revoke(c, "tok_9", world.now))


def test_an_expired_token_is_not_revoked(store, world):
    for token, expires in (("tok_1", None), ("tok_2", world.now), ("tok_3", world.now + 1), ("tok_4", None)):
        world.token(token, expires=expires)
    store.run(lambda c: tokens.revoke(c, "tok_4", world.now))
    assert [token.id for token in store.read(lambda c: tokens.unrevoked(c))] == ["tok_1", "tok_2", "tok_3"]


def test_all_are_revoked_at_once(store, world):
    world.token("tok_1")
    world.token("tok_2", account="other")
    assert set(store.run(lambda c: tokens.revoke_all(c, world.now))) == {"tok_1", "tok_2"}
    assert store.run(lambda c: tokens.revoke_all(c, world.now)) == ()


def test_grants_of_tokens_name_open_tenants(store, world):
    world.tenant("closed")
    store.run(lambda c: tenants.close(c, "closed", world.now))
    for grant in ("support@nowhere", "support@closed"):
        with pytest.raises(NotFound, match="no open tenant"):
            world.token("tok_1", grant)
    assert store.read(tokens.listing) == ()


def test_ids_hashes_and_accounts_are_checked(store, world):
    world.token("tok_1")
    good = store.read(lambda c: tokens.get(c, "tok_1"))
    for bad in (
        good,
        replace(good, id="tok_2"),
        replace(good, id="tok_2", token_hash=world.hashed("x"), account="svc_9"),
        replace(good, id="tok_2", token_hash=b"in clear"),
    ):
        with pytest.raises(Conflict):
            store.run(lambda c, b=bad: tokens.create(c, b))
