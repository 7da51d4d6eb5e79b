import pytest

from gateway.foundation.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 2592000), ("3650d", 315360000)]
)
def test_lengths_of_time(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


HOSTILE = [
    "",
    "1",
    1,
    True,
    None,
    "1 h",
    "-1s",
    "+1s",
    "1.5h",
    "1H",
    "1w",
    "1h30m",
    "١s",
    "1s\n",
    "3651d",
    "9999999999s",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_length_of_time(text):
    with pytest.raises(ValueError, match=r"length of time|ten years"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (5, "5s"), (60, "1m"), (5400, "90m"), (86400, "1d")])
def test_the_shortest_spelling(seconds, text):
    assert format_duration(seconds) == text
