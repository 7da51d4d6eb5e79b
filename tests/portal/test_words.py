import pytest

from gateway.portal.words import clock_text, wait_text


def test_a_time_is_written_for_people() -> None:
    assert clock_text(1_795_354_800) == "22 November 2026, 13:40 UTC"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "a few seconds"),
        (10, "a few seconds"),
        (11, "about a minute"),
        (60, "about a minute"),
        (61, "about 2 minutes"),
        (900, "about 15 minutes"),
    ],
)
def test_a_wait_is_never_told_shorter_than_it_is(seconds: int, text: str) -> None:
    assert wait_text(seconds) == text
