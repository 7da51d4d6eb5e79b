"""How often something happened lately, for limits: two windows per key, in no feed.

Law: counting is one statement, so that guesses sent side by side are all counted. An estimate errs upwards. A window
may be infinite: then hits are counted until they are cleared.
"""

import math

from sqlalchemy import Connection, delete, select, text

from gateway.store.tables import THROTTLE

# The same text serves SQLite and PostgreSQL. A clock that was put back by less than a window goes on counting in the
# window that it was in; what is further away, either way, is another time and starts anew.
_HIT = text(
    """
    INSERT INTO throttle (key, bucket, hits, previous, expires_at)
    VALUES (:key, :bucket, 1, 0, :expires_at)
    ON CONFLICT (key) DO UPDATE SET
      hits = CASE WHEN throttle.bucket IN (:bucket, :bucket + 1) THEN throttle.hits + 1 ELSE 1 END,
      previous = CASE
        WHEN throttle.bucket IN (:bucket, :bucket + 1) THEN throttle.previous
        WHEN throttle.bucket = :bucket - 1 THEN throttle.hits
        ELSE 0 END,
      bucket = CASE WHEN throttle.bucket = :bucket + 1 THEN throttle.bucket ELSE :bucket END,
      expires_at = :expires_at
    RETURNING bucket, hits, previous
    """
)

_TAKE_BACK = text(
    """
    UPDATE throttle SET
      hits = CASE WHEN bucket = :bucket AND hits > 0 THEN hits - 1 ELSE hits END,
      previous = CASE WHEN bucket = :bucket + 1 AND previous > 0 THEN previous - 1 ELSE previous END
    WHERE key = :key
    """
)


def hit(connection: Connection, key: str, now: float, window_seconds: float) -> int:
    """Count one more, and say how many there were within the last `window_seconds`, this one included."""
    bucket = math.floor(now / window_seconds)
    expires_at = (bucket + 2) * window_seconds
    row = connection.execute(_HIT, {"key": key, "bucket": bucket, "expires_at": expires_at}).one()
    return _estimate(row.bucket, row.hits, row.previous, now / window_seconds)


def count(connection: Connection, key: str, now: float, window_seconds: float) -> int:
    """What `hit` would say without counting."""
    columns = THROTTLE.c
    query = select(columns.bucket, columns.hits, columns.previous).where(columns.key == key)
    row = connection.execute(query).one_or_none()
    return _estimate(row.bucket, row.hits, row.previous, now / window_seconds) if row else 0


def take_back(connection: Connection, key: str, at: float, window_seconds: float) -> None:
    """Uncount one that was counted at `at`, and turned out to be none of those that are limited."""
    connection.execute(_TAKE_BACK, {"key": key, "bucket": math.floor(at / window_seconds)})


def clear(connection: Connection, key: str) -> None:
    connection.execute(delete(THROTTLE).where(THROTTLE.c.key == key))


def sweep(connection: Connection, now: float) -> int:
    return connection.execute(delete(THROTTLE).where(THROTTLE.c.expires_at <= now)).rowcount


def _estimate(bucket: int, hits: int, previous: int, windows: float) -> int:
    """The window in progress, and of the one before it the share that the sliding window still covers."""
    age = windows - bucket
    if not -1 <= age < 2:
        return 0
    if age >= 1:
        return math.ceil(hits * (2 - age))
    return hits + math.ceil(previous * (1 - max(age, 0.0)))
