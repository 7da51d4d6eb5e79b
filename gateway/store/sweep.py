"""What the keeper clears away now and then, in one transaction."""

from sqlalchemy import Connection

from gateway.store import changes, enrolments, hand_overs, pending, sessions, throttle

ENDED_SESSIONS_KEPT_SECONDS = 7 * 86_400.0
"""So that a person's own page can show what ended lately, and why."""
EXPIRED_AT_ONCE = 1000
"""Others who write wait for it; what is left has its turn at the next time."""


def sweep(connection: Connection, now: float) -> int:
    """How many rows went. Takes no authority from anybody: all of it had ended by itself."""
    sessions.end_expired(connection, now, EXPIRED_AT_ONCE)
    return sum(
        (
            hand_overs.sweep(connection, now),
            pending.sweep(connection, now),
            enrolments.sweep(connection, now),
            throttle.sweep(connection, now),
            sessions.sweep(connection, now - ENDED_SESSIONS_KEPT_SECONDS),
            changes.prune(connection),
        )
    )
