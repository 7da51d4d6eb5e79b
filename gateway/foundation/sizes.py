"""Sizes as people write them: `64KiB`, `10MiB`, `1GiB`. One number, one unit, nothing guessed."""

import re

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_SIZE = re.compile(r"([0-9]{1,9})(KiB|MiB|GiB)", re.ASCII)


def parse_size(value: object) -> int:
    """Bytes. Raises ValueError with a message for the user; a number without a unit is no size."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size: write a whole number and a unit, like 64KiB, 10MiB or 1GiB")
    return int(match[1]) * UNITS[match[2]]
