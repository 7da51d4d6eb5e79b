import pytest

from gateway.http1.authority import parse_host, split_absolute
from gateway.http1.messages import BadRequest


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"h", ("h", None)),
        (b"orders.btb.localhost", ("orders.btb.localhost", None)),
        (b"Orders.BTB.Localhost:8443", ("orders.btb.localhost", 8443)),
        (b"xn--bcher-kva.example:65535", ("xn--bcher-kva.example", 65535)),
        (b"10.0.3.11:1", ("10.0.3.11", 1)),
        (b"[::1]", ("[::1]", None)),
        (b"[0:0:0:0:0:0:0:1]:443", ("[::1]", 443)),
        (b"[2001:DB8::A]", ("[2001:db8::a]", None)),
        (b"a" * 63 + b".b", ("a" * 63 + ".b", None)),
    ],
)
@pytest.mark.advisory("CVE-2026-27587", "CVE-2026-48794")
def test_one_spelling(value: bytes, expected: tuple[str, int | None]) -> None:
    assert parse_host(value) == expected


HOSTILE = [
    b"",
    b".",
    b"h.",
    b".h",
    b"a..b",
    b"h:",
    b"h:0",
    b"h:080",
    b"h:65536",
    b"h:+80",
    b"h:8_0",
    b"h: 80",
    b"h:80:80",
    b"h:\xd9\xa5",
    b":80",
    b"h h",
    b"h,i",
    b"h/",
    b"h?x",
    b"h#x",
    b"h\\x",
    b"u@h",
    b"u:p@h",
    b"a_b",
    b"-a",
    b"a-",
    b"h%2e",
    b"h\0",
    b"h\n",
    b"h\xe9",
    b"\xe2\x84\xaa",  # KELVIN SIGN, which lower-cases to k as text
    b"a" * 64,
    b".".join([b"a" * 49] * 6),
    b"a." * 200 + b"a",
    b"::1",
    b"[::1",
    b"[]",
    b"[:::1]",
    b"[::1%25eth0]",
    b"[1.2.3.4]",
    b"[::1]x",
    b"[v1.a]",
    b"*",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.advisory("CVE-2022-23632")
def test_anything_else_is_refused(value: bytes) -> None:
    for _ in range(2):  # A cached answer must be the same one.
        with pytest.raises(BadRequest, match=r"^host$"):
            parse_host(value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", None),
        (b"//h/a", None),
        (b"/http://h/", None),
        (b"*", None),
        (b"h:443", None),
        (b"ftp://h/", None),
        (b"http:/h", None),
        (b"http:///a", None),
        (b"http://", None),
        (b"http://u@h/", None),
        (b"http://h", (b"h", b"/")),
        (b"http://h/", (b"h", b"/")),
        (b"HTTPS://H:8443/a/b?c=http://d", (b"H:8443", b"/a/b?c=http://d")),
        (b"http://h?a", (b"h", b"/?a")),
        (b"http://h/a@b", (b"h", b"/a@b")),
        (b"http://[::1]:80//", (b"[::1]:80", b"//")),
    ],
)
def test_absolute_form(target: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert split_absolute(target) == expected


@pytest.mark.parametrize("authority", [b"h\\i", b"h.", b"h:", b"a_b", b"h h", b"*"])
def test_an_absolute_form_with_a_wrong_authority(authority: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^host$"):
        split_absolute(b"http://" + authority + b"/a")
