"""A path has one meaning, or it is refused."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.path import _PLAIN, NormalPath, PathRefusal, _decoded, normalise
from gateway.policy.reasons import Reason

REFUSED = [
    # Dot segments, in every spelling (CVE-2026-33494, CVE-2019-9901, CVE-2026-48020).
    (b"/public/../admin/secrets", Reason.AMBIGUOUS),
    (b"/info/./private", Reason.AMBIGUOUS),
    (b"/..", Reason.AMBIGUOUS),
    (b"/.", Reason.AMBIGUOUS),
    (b"/a/%2e%2e/b", Reason.AMBIGUOUS),
    (b"/a/%2E./b", Reason.AMBIGUOUS),
    (b"/a/.%2e", Reason.AMBIGUOUS),
    (b"/a/..;/b", Reason.AMBIGUOUS),
    (b"/a/..;x=y/b", Reason.AMBIGUOUS),
    (b"/a/.;/b", Reason.AMBIGUOUS),
    (b"/a/..%3bx/b", Reason.AMBIGUOUS),
    (b"/a/..%2fb", Reason.AMBIGUOUS),
    (b"/a/x%2f..%2fb", Reason.AMBIGUOUS),
    (b"/a/..%5cb", Reason.AMBIGUOUS),
    (b"/a/x%5c..%5cb", Reason.AMBIGUOUS),
    (b"/a/..%20/b", Reason.AMBIGUOUS),
    (b"/a/%20../b", Reason.AMBIGUOUS),
    (b"/a/%EF%BC%8E%EF%BC%8E/b", Reason.AMBIGUOUS),  # full-width dots
    (b"/a/%E2%80%A5/b", Reason.AMBIGUOUS),  # two dot leader
    # Encoded twice (CVE-2025-66490 and kin).
    (b"/a/%252e%252e/b", Reason.AMBIGUOUS),
    (b"/a%252fb", Reason.AMBIGUOUS),
    (b"/%2541", Reason.AMBIGUOUS),
    (b"/a/%25u002e/b", Reason.AMBIGUOUS),
    # Empty segments (CVE-2021-29492).
    (b"//", Reason.AMBIGUOUS),
    (b"//evil.test/a", Reason.AMBIGUOUS),
    (b"/a//b", Reason.AMBIGUOUS),
    (b"/a//", Reason.AMBIGUOUS),
    # Fragment and query are no part of a path (CVE-2026-41059, CVE-2025-54576).
    (b"/foo/x#/bar", Reason.MALFORMED),
    (b"/a?b", Reason.MALFORMED),
    # Bytes that no path has.
    (b"", Reason.MALFORMED),
    (b"a", Reason.MALFORMED),
    (b"*", Reason.MALFORMED),
    (b"https://shop.test/a", Reason.MALFORMED),
    (b"/a\\b", Reason.MALFORMED),
    (b"/\\..\\b", Reason.MALFORMED),
    (b"/a b", Reason.MALFORMED),
    (b"/a\x00b", Reason.MALFORMED),
    (b"/a\tb", Reason.MALFORMED),
    (b"/a\r\nb", Reason.MALFORMED),
    (b"/a\n", Reason.MALFORMED),
    (b"/caf\xc3\xa9", Reason.MALFORMED),
    (b"/a\xff", Reason.MALFORMED),
    (b"/<x>", Reason.MALFORMED),
    (b'/"', Reason.MALFORMED),
    (b"/{tenant}", Reason.MALFORMED),
    (b"/`", Reason.MALFORMED),
    # Escapes that are none, and bytes that are no UTF-8, overlong forms of `/` and `.` among them.
    (b"/%", Reason.MALFORMED),
    (b"/%2", Reason.MALFORMED),
    (b"/%zz", Reason.MALFORMED),
    (b"/%u002e", Reason.MALFORMED),
    (b"/%ff", Reason.MALFORMED),
    (b"/%c0%ae%c0%ae/", Reason.MALFORMED),
    (b"/%c0%af", Reason.MALFORMED),
    (b"/%e0%80%af", Reason.MALFORMED),
    (b"/%ed%a0%80", Reason.MALFORMED),  # a surrogate
    # Control characters.
    (b"/a%00b", Reason.AMBIGUOUS),
    (b"/a%0d%0ab", Reason.AMBIGUOUS),
    (b"/a%0a", Reason.AMBIGUOUS),
    (b"/a%7f", Reason.AMBIGUOUS),
    (b"/a%c2%85", Reason.AMBIGUOUS),
]

ACCEPTED = [
    (b"/", ("",), ()),
    (b"/a", ("a",), ()),
    (b"/a/", ("a", ""), ()),
    (b"/a/b.html", ("a", "b.html"), ()),
    (b"/.well-known/jwks.json", (".well-known", "jwks.json"), ()),
    (b"/a/...", ("a", "..."), ()),
    (b"/..a/b..", ("..a", "b.."), ()),
    (b"/%61%2Db", ("a-b",), ()),
    (b"/caf%C3%A9", ("café",), ()),
    (b"/100%25", ("100%",), ()),
    (b"/50%25%20off", ("50% off",), ()),
    (b"/what%3F/%23one", ("what?", "#one"), ()),
    (b"/a[1]|^~!$&'()*+,=:@", ("a[1]|^~!$&'()*+,=:@",), ()),
    (b"/a%2Fb", ("a/b",), ("slash",)),
    (b"/a%2fb%5Cc;d", ("a/b\\c;d",), ("backslash", "semicolon", "slash")),
    (b"/a;v=1/b", ("a;v=1", "b"), ("semicolon",)),
    (b"/a%3Bv", ("a;v",), ("semicolon",)),
]


@pytest.mark.parametrize(("path", "reason"), REFUSED)
@pytest.mark.advisory(
    "CVE-2026-33494",
    "CVE-2019-9901",
    "CVE-2021-29492",
    "CVE-2025-66490",
    "CVE-2026-52844",
    "CVE-2026-48020",
    "CVE-2026-41059",
)
def test_two_meanings_are_refused(path: bytes, reason: Reason) -> None:
    refusal = normalise(path)
    assert isinstance(refusal, PathRefusal)
    assert refusal.reason is reason
    assert refusal.detail


@pytest.mark.parametrize(("path", "segments", "encoded"), ACCEPTED)
@pytest.mark.advisory("CVE-2026-41059")
def test_one_meaning_is_decoded_once(path: bytes, segments: tuple[str, ...], encoded: tuple[str, ...]) -> None:
    assert normalise(path) == NormalPath(path, segments, frozenset(encoded))


HOSTILE = st.lists(
    st.sampled_from(
        [b"/", b"//", b".", b"..", b";", b"%2e", b"%2F", b"%5c", b"%25", b"2e", b"%00", b"%c3%a9", b"%c0", b"\\", b"a",
         b"b", b"#", b"?", b"%", b" ", b"\xff", b"%EF%BC%8E", b"{", b"A", b"%3b"]
    ),
    max_size=9,
).map(b"".join)  # fmt: skip


@given(st.one_of(HOSTILE.map(lambda tail: b"/" + tail), HOSTILE, st.binary(max_size=12)))
@settings(max_examples=400, deadline=None)
@pytest.mark.advisory(
    "CVE-2026-33494", "CVE-2019-9901", "CVE-2021-29492", "CVE-2025-66490", "CVE-2026-52844", "CVE-2026-48020"
)
def test_refused_or_equal_to_one_strict_decoding(path: bytes) -> None:
    result = normalise(path)
    if isinstance(result, PathRefusal):
        assert result.reason in (Reason.MALFORMED, Reason.AMBIGUOUS)
        return
    assert result.raw == path
    assert result.segments == tuple(unquote_to_bytes(part).decode("utf-8") for part in path[1:].split(b"/"))
    for segment in result.segments:
        parts = segment.replace("\\", "/").split("/")
        assert not {part.partition(";")[0].strip() for part in parts} & {".", ".."}
        assert unquote_to_bytes(segment) == segment.encode("utf-8"), "a second decoding changes nothing"


@given(st.from_regex(_PLAIN, fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_the_short_way_and_the_long_way_agree(path: bytes) -> None:
    assert normalise(path) == _decoded(path)
