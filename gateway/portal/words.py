"""Times and waits as people read them."""

from datetime import UTC, datetime


def clock_text(unix_seconds: float) -> str:
    """`22 November 2026, 13:40 UTC`."""
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def wait_text(seconds: int) -> str:
    """`a few seconds`, `about a minute`, `about 15 minutes`; never shorter than the wait."""
    if seconds <= 10:
        return "a few seconds"
    minutes = -(-seconds // 60)
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"
