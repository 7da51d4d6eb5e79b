import pytest

from gateway.cli.show import cell, printable


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("x", None, "-"),
        ("x", "", "-"),
        ("x", [], "-"),
        ("x", True, "yes"),
        ("x", False, "no"),
        ("x", 0, "0"),
        ("created", 1_800_000_000, "2027-01-15 08:00Z"),
        ("bytes", 1_800_000_000, "1800000000"),
        ("grants", ["a@b", "c@-"], "a@b, c@-"),
    ],
)
def test_cells(name, value, shown):
    assert cell(name, value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 例", "é 例"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("\u202e", "\\x202e"),
        ("\x9b1m", "\\x9b1m"),
    ],
)
@pytest.mark.advisory("CVE-2020-7694")
def test_what_a_terminal_would_obey_is_shown(text, shown):
    assert printable(text) == shown
