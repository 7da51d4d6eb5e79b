"""Hand-over codes: how a sign-in on the login host becomes a token on an application's host, once.

Law: redeeming is one DELETE that carries every condition. A code with the wrong nonce or host stays, so that who
merely saw the code can't spend it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from gateway.foundation.errors import Conflict
from gateway.store.faults import conflict
from gateway.store.sessions import is_live
from gateway.store.tables import HAND_OVERS, SESSIONS


@dataclass(frozen=True, slots=True)
class HandOver:
    code_hash: bytes
    session: str
    host: str
    target: str
    """Path and query on `host` that the browser goes back to, sealed by identity."""
    nonce_hash: bytes
    """Over all that the browser has to hold besides the code."""
    expires_at: float


def add(connection: Connection, hand_over: HandOver) -> None:
    """Raises Conflict if there is no such session."""
    with conflict(Conflict("this hand-over code is taken, or its session is gone")):
        connection.execute(
            insert(HAND_OVERS).values(
                code_hash=hand_over.code_hash,
                session=hand_over.session,
                host=hand_over.host,
                target=hand_over.target,
                nonce_hash=hand_over.nonce_hash,
                expires_at=hand_over.expires_at,
            )
        )


def redeem(connection: Connection, code_hash: bytes, host: str, nonce_hash: bytes, now: float) -> HandOver | None:
    """The hand-over, for exactly one caller; None if any condition fails, a live session among them."""
    columns = HAND_OVERS.c
    redeemed = connection.execute(
        delete(HAND_OVERS)
        .where(
            columns.code_hash == code_hash,
            columns.host == host,
            columns.nonce_hash == nonce_hash,
            columns.expires_at > now,
            columns.session.in_(select(SESSIONS.c.id).where(*is_live(now))),
        )
        .returning(*columns)
    ).one_or_none()
    return HandOver(*redeemed) if redeemed else None


def sweep(connection: Connection, now: float) -> int:
    return connection.execute(delete(HAND_OVERS).where(HAND_OVERS.c.expires_at <= now)).rowcount
