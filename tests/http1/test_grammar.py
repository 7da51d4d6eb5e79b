import pytest

from gateway.http1.grammar import COMMON_NAMES, fault_of, is_plain_name, parse_line
from gateway.http1.messages import Fault, Header

TOKEN_BYTES = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize("byte", range(256))
def test_which_bytes_a_name_may_hold(byte: int) -> None:
    line = b"a%cb: c" % byte
    if byte in TOKEN_BYTES:
        assert parse_line(line) == Header(line[:3].lower(), b"c", line)
    elif byte == ord(":"):
        assert parse_line(line) == Header(b"a", b"b: c", line)
    else:
        assert parse_line(line) is None


@pytest.mark.parametrize("byte", range(256))
def test_which_bytes_a_value_may_hold(byte: int) -> None:
    is_control = (byte < 0x20 and byte != 0x09) or byte == 0x7F
    for line in (b"a: b%cc" % byte, b"a: %c" % byte, b"a:%cb" % byte):
        assert (parse_line(line) is None) == is_control


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"X:", (b"x", b"")),
        (b"X: \t ", (b"x", b"")),
        (b"X:y", (b"x", b"y")),
        (b"x-Y: \ty z\t ", (b"x-y", b"y z")),
        (b"X: \xa0y\xa0", (b"x", b"\xa0y\xa0")),
        (b"X: a:b", (b"x", b"a:b")),
    ],
)
def test_names_are_lowered_and_values_trimmed(line: bytes, expected: tuple[bytes, bytes]) -> None:
    assert parse_line(line) == Header(*expected, line)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", Fault.HEADER_NAME),
        (b" X: y", Fault.FOLDED_LINE),
        (b"\tX: y", Fault.FOLDED_LINE),
        (b"X : y", Fault.HEADER_NAME),
        (b"X: \0", Fault.HEADER_VALUE),
        (b"X: " + b"y" * 9000, Fault.LINE_TOO_LONG),
    ],
)
def test_why_a_line_is_refused(line: bytes, fault: Fault) -> None:
    assert parse_line(line) is None
    assert fault_of(line) == fault


@pytest.mark.parametrize("name", [b"host", b"x-request-id", b"cookie", b"X9", b"-"])
def test_plain_names(name: bytes) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", [b"", b"x_user", b"x.user", b"x user", b"x~user", b"x-us\xe9r", b"x-user\n", b"x:y"])
def test_names_with_an_alias(name: bytes) -> None:
    assert not is_plain_name(name)


def test_remembered_names_are_plain_and_hold_no_secret() -> None:
    assert all(is_plain_name(name) and name == name.lower() for name in COMMON_NAMES)
    assert not COMMON_NAMES & {b"cookie", b"set-cookie", b"authorization", b"proxy-authorization", b"referer"}
    assert not COMMON_NAMES & {b"content-length", b"transfer-encoding"}
