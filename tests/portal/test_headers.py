import pytest

from gateway.portal.headers import DOCUMENT_POLICY, EVERYWHERE, page_policy


@pytest.mark.requirement("ASVS 3.4.3")
def test_a_page_may_load_its_style_and_pictures_and_nothing_else() -> None:
    assert page_policy() == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def test_a_form_may_lead_to_the_hosts_it_is_given() -> None:
    assert "form-action 'self' https://*.btb.localhost:8443;" in page_policy(("https://*.btb.localhost:8443",))


def test_only_a_page_that_asks_for_it_runs_a_script_and_never_an_inline_one() -> None:
    assert "script-src" not in page_policy()
    scripted = page_policy(has_script=True)
    assert "script-src 'self'; require-trusted-types-for 'script'" in scripted
    assert "unsafe" not in scripted


def test_what_is_no_page_loads_nothing() -> None:
    assert DOCUMENT_POLICY.startswith("default-src 'none'")
    assert EVERYWHERE["Cache-Control"] == "no-store"
