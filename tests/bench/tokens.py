"""What peers that know no session of ours ask for: a JWT in a cookie, and some that they have to refuse."""

import time

import jwt

ISSUER = "https://login.btb.localhost"
AUDIENCE = "orders"
COOKIE = "session"
KEY_ID = "k1"
SECONDS = 86_400


def claims(*, tenant: str = "acme", expires_in: float = SECONDS) -> dict[str, object]:
    now = int(time.time())
    times = {"iat": now - 2 * SECONDS, "nbf": now - 2 * SECONDS, "exp": int(now + expires_in)}
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_ada", "tenant": tenant, **times}


def good(key: object, algorithm: str) -> str:
    return _cookie(claims(), key, algorithm)


def bad(key: object, other_key: object, algorithm: str) -> tuple[str, ...]:
    """None, of another key, of yesterday, of another customer, without a signature."""
    return (
        "session=",
        _cookie(claims(), other_key, algorithm),
        _cookie(claims(expires_in=-3600), key, algorithm),
        _cookie(claims(tenant="globex"), key, algorithm),
        _cookie(claims(), None, "none"),
    )


def _cookie(about: dict[str, object], key: object, algorithm: str) -> str:
    return f"{COOKIE}={jwt.encode(about, key, algorithm=algorithm, headers={'kid': KEY_ID})}"  # type: ignore[arg-type]  # As the algorithm needs it.
