import pytest

from gateway.config.scalars import Guess, resolve_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("null", None),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("443", 443),
        ("-7", -7),
        ("support@acme", "support@acme"),
        ("10.0.3.11", "10.0.3.11"),
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("1h", "1h"),
        ("/status", "/status"),
        ("nobody", "nobody"),
        ("-", "-"),
        ("1GiB", "1GiB"),
        ("e5", "e5"),
        ("https://a.b", "https://a.b"),
    ],
)
def test_plain_scalars_that_every_reader_takes_alike(text, value):
    resolved = resolve_plain(text)
    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("no", "No", "NO", "yes", "on", "off", "y", "N", "True", "FALSE", "~", "Null", "NULL"),
        *("5:30", "1:2:3", "190:20:30.15", "12:30:45", "0777", "0o17", "0x1F", "0b101", "00", "-0", "+5", "1_000"),
        *("1.5", "1.", ".5", "1e3", "1E5", "1_0.5e-3", ".inf", "-.INF", ".nan", ".NaN", "1234567890123456789"),
        *("2026-01-31", "2026-1-3", "2026-01-31T10:00:00Z", "2026-01-31 10:00:00", "=", "<<"),
    ],
)
def test_plain_scalars_that_readers_disagree_about(text):
    guess = resolve_plain(text)
    assert isinstance(guess, Guess)
    assert guess.message.startswith(f"{text} is not quoted")
    assert f'quote it: "{text}"' in guess.hint
