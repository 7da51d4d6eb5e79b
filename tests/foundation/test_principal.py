from dataclasses import FrozenInstanceError, replace

import pytest

from gateway.foundation.principal import ANONYMOUS, Credential, Grant, Principal

ADA = Principal("usr_1", "ada", "-", frozenset({Grant("support", "acme")}), Credential("session", "abc"))


@pytest.mark.parametrize("text", ["support@acme", "support@*", "admin@-", "a.b-c@x1"])
def test_a_grant_is_read_as_it_is_written(text):
    assert str(Grant.parse(text)) == text
    assert Grant.parse(text).until is None


@pytest.mark.parametrize("text", ["", "@", "support", "support@", "@acme", "support@acme@other", "a@@b", "@a@b"])
def test_what_is_no_grant(text):
    with pytest.raises(ValueError, match=r"is not a grant: write ROLE@TENANT"):
        Grant.parse(text)


def test_grants_have_an_order():
    grants = [Grant("b", "a"), Grant("a", "b"), Grant("a", "a")]
    assert [str(grant) for grant in sorted(grants)] == ["a@a", "a@b", "b@a"]


def test_nobody_is_anonymous_and_nobody_else_is():
    assert ANONYMOUS.is_anonymous
    assert not ANONYMOUS.is_service
    assert ANONYMOUS.grants == frozenset()
    assert not ADA.is_anonymous


def test_a_token_makes_a_service():
    assert replace(ADA, credential=Credential("token", "tok_1")).is_service
    assert not ADA.is_service


@pytest.mark.parametrize("attribute", ["id", "grants", "version", "another"])
def test_a_principal_is_never_changed(attribute):
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(ADA, attribute, "root")
