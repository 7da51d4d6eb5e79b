import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.foundation.principal import ANONYMOUS, Credential, Principal
from gateway.identity.authenticate import Credentials, authenticate, find_credentials
from gateway.policy.reasons import Reason

TOKEN = b"gwt_" + b"a" * 64
ADA = Principal("usr_ada", "ada", "-", frozenset(), Credential("session", "ses_1"))
BOB = Principal("usr_bob", "bob", "-", frozenset(), Credential("session", "tok_b"), session="ses_b")
CI = Principal("svc_ci", "ci", "-", frozenset(), Credential("token", "tok_1"))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], Credentials()),
        ([("Accept", b"*/*"), ("Cookie", b"a=1")], Credentials()),
        ([("Cookie", b"__Host-gateway=x")], Credentials(session="x")),
        ([("Authorization", b"Bearer " + TOKEN)], Credentials(bearer=TOKEN.decode())),
        ([("Authorization", b"bEaReR \t " + TOKEN)], Credentials(bearer=TOKEN.decode())),
        ([("Authorization", b"Bearer gwt_short")], Credentials(bearer="gwt_short")),
        ([("Authorization", b"Bearer gwt_a, Bearer gwt_b")], Credentials(bearer="gwt_a, Bearer gwt_b")),
        # The application's own business.
        ([("Authorization", b"Basic YTpi")], Credentials()),
        ([("Authorization", b"Bearer ey.ey.sig")], Credentials()),
        ([("Authorization", b"Bearer xgwt_abc")], Credentials()),
        ([("Authorization", b"Bearer GWT_abc")], Credentials()),
        ([("Authorization", b"Basic YTpi"), ("Cookie", b"__Host-gateway=x")], Credentials(session="x")),
        ([("Authorization", b"Basic YTpi"), ("Authorization", b"Digest x")], Credentials()),
    ],
)
@pytest.mark.requirement("ASVS 6.1.3")
def test_finds_the_one_credential(header, lines, found) -> None:
    assert find_credentials([header(*line) for line in lines]) == found


@pytest.mark.parametrize(
    "lines",
    [
        [("Cookie", b"__Host-gateway=x; __Host-gateway=x")],
        [("Cookie", b"__Host-gateway=x"), ("Cookie", b"__Host-gateway=y")],
        [("Cookie", b"=__Host-gateway=x")],
        [("Cookie", b"__Host-gateway=x"), ("Authorization", b"Bearer " + TOKEN)],
        [("Authorization", b"Bearer " + TOKEN), ("Authorization", b"Bearer " + TOKEN)],
        [("Authorization", b"Bearer gwt_a"), ("Authorization", b"Basic YTpi")],
        [("Authorization", b"Basic YTpi"), ("Authorization", b"Bearer gwt_a")],
        # Ours under another scheme would otherwise arrive at the application.
        [("Authorization", b"Token " + TOKEN)],
        [("Authorization", TOKEN)],
        [("Authorization", b"Bearer x, Bearer " + TOKEN)],
        [("Authorization", b'Bearer "' + TOKEN + b'"')],
    ],
)
@pytest.mark.advisory("CVE-2026-25748")
def test_refuses_two_credentials_and_misplaced_ones(header, lines) -> None:
    assert find_credentials([header(*line) for line in lines]) is Reason.CREDENTIALS


class Known:
    def session_at_once(self, token: str, host: str) -> Principal | None:
        return BOB if (token, host) == ("bob's", "orders.example") else None

    async def session(self, token: str, host: str) -> Principal | None:
        return ADA if (token, host) == ("ada's", "orders.example") else None

    async def service(self, token: str) -> Principal | None:
        return CI if token == "gwt_ci" else None


class Away:
    def session_at_once(self, token: str, host: str) -> Principal | None:
        return None

    async def session(self, token: str, host: str) -> Principal | None:
        raise StoreUnavailable("away")

    async def service(self, token: str) -> Principal | None:
        raise StoreUnavailable("away")


@pytest.mark.parametrize(
    ("credentials", "who"),
    [
        (Credentials(), ANONYMOUS),
        (Credentials(session="ada's"), ADA),
        (Credentials(session="bob's"), BOB),
        (Credentials(session="forged"), ANONYMOUS),
        (Credentials(session=""), ANONYMOUS),
        (Credentials(bearer="gwt_ci"), CI),
        (Credentials(bearer="gwt_unknown"), Reason.INVALID_TOKEN),
    ],
)
async def test_who_it_is(credentials, who) -> None:
    assert await authenticate(credentials, "orders.example", Known()) is who


@pytest.mark.parametrize("credentials", [Credentials(session="x"), Credentials(bearer="gwt_x")])
async def test_a_store_that_is_away_is_nobody_s_identity(credentials) -> None:
    with pytest.raises(StoreUnavailable):
        await authenticate(credentials, "orders.example", Away())


async def test_without_credentials_nothing_is_asked() -> None:
    assert await authenticate(Credentials(), "orders.example", Away()) is ANONYMOUS
