import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity.canonical import NAME_CHARACTERS, canonical_name, is_usable_name, shown_name


@pytest.mark.parametrize(
    "spelling",
    ["Alice", "ALICE", " alice ", "\talice\n", "ａｌｉｃｅ", "Ａlice", "alice\u3000", "\u00a0Alice", "ᴬlice", "𝒶lice"],
)
@pytest.mark.advisory("CVE-2025-6004")
def test_every_spelling_is_one_name(spelling: str) -> None:
    assert canonical_name(spelling) == "alice"


@pytest.mark.parametrize(
    ("left", "right"),
    [("Straße", "STRASSE"), ("é", "e\u0301"), ("Ⅸ", "ix"), ("ann  lee", "Ann\u2003Lee"), ("ﬁona", "FIONA")],
)
@pytest.mark.advisory("CVE-2025-6004")
def test_compatible_spellings_meet(left: str, right: str) -> None:
    assert canonical_name(left) == canonical_name(right)


def test_other_names_stay_apart() -> None:
    assert len({canonical_name(name) for name in ("alice", "alise", "al ice", "alic\u0435")}) == 4


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_is_idempotent_and_deaf_to_case(text: str) -> None:
    once = canonical_name(text)
    assert canonical_name(once) == once
    assert canonical_name(f"  {text}\t") == once
    assert canonical_name(text.casefold()) == once


@pytest.mark.parametrize(
    "name", ["alice", "ann.lee@example.com", "Jürgen Groß", "李雷", "o'neill", "a" * NAME_CHARACTERS]
)
def test_usable(name: str) -> None:
    assert is_usable_name(name)


@pytest.mark.parametrize("name", ["", "   ", "a" * (NAME_CHARACTERS + 1), "a\x00b", "a\u200bb", "a\u202eb", "a\ue000"])
def test_unusable(name: str) -> None:
    assert not is_usable_name(name)


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\u3000", "  "])
def test_what_is_shown_moves_no_cursor(blank: str) -> None:
    assert shown_name(f"{blank}Ann{blank}Lee{blank}") == "Ann Lee"


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_whatever_may_be_a_name_is_shown_in_characters_that_can_be_seen(text: str) -> None:
    if is_usable_name(text):
        assert all(unicodedata.category(character)[0] in "LMNPS" or character == " " for character in shown_name(text))
        assert canonical_name(shown_name(text)) == canonical_name(text)
