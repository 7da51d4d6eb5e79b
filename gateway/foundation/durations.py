"""Lengths of time as people write them: `90s`, `15m`, `1h`, `30d`. One number, one unit, nothing guessed."""

import re

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 3650 * 86400

_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


def parse_duration(value: object) -> int:
    """Whole seconds. Raises ValueError with a message for the user; a number without a unit is no duration."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a length of time: write a number and a unit, like 90s, 15m, 1h or 30d")
    seconds = int(match[1]) * SECONDS[match[2]]
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"{value!r} is longer than ten years (3650d)")
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest spelling that `parse_duration` reads back as the same number: 3600 is `1h`, 5400 is `90m`."""
    unit = next((unit for unit in "dhm" if seconds and seconds % SECONDS[unit] == 0), "s")
    return f"{seconds // SECONDS[unit]}{unit}"
