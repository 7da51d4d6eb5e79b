import pytest

from gateway.policy.pattern import Wild, parse_pattern


@pytest.mark.parametrize(
    ("text", "segments", "is_open"),
    [
        ("/", ("",), False),
        ("/**", (), True),
        ("/a", ("a",), False),
        ("/a/", ("a", ""), False),
        ("/a/**", ("a",), True),
        ("/t/{tenant}/orders/*", ("t", Wild.TENANT, "orders", Wild.ANY), False),
        ("/reset/{secret}", ("reset", Wild.SECRET), False),
        ("/café/100%", None, None),
        ("/.well-known/x", (".well-known", "x"), False),
    ],
)
def test_patterns_are_read(text: str, segments: tuple[object, ...] | None, is_open: bool | None) -> None:
    if segments is None:
        with pytest.raises(ValueError, match="write the path decoded"):
            parse_pattern(text)
        return
    pattern = parse_pattern(text)
    assert (pattern.segments, pattern.is_open, pattern.text) == (segments, is_open, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a", "must begin with /"),
        ("", "must begin with /"),
        ("/a//b", "empty segment"),
        ("//**", "empty segment"),
        ("/a/**/b", "only be the last segment"),
        ("/a*", "can't stand in a path"),
        ("/{id}", "can't stand in a path"),
        ("/x{tenant}", "can't stand in a path"),
        ("/a/../b", "always refused"),
        ("/a;b", "always refused"),
        ("/a\\b", "always refused"),
        ("/a\x00", "always refused"),
        ("/a?b", "without query"),
        ("/{tenant}/{tenant}", "names two tenants"),
        ("/a" * 65, "more than 64 segments"),
    ],
)
def test_a_pattern_that_could_not_match_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_pattern(text)
