"""Every template, with hostile words in every place that a word can come from outside."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError, meta
from markupsafe import Markup

import gateway.portal.render as rendering
from gateway.portal.render import SCRIPTED, render, templates

HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(1)>'--><b onclick='x'>&amp;{{7*7}}{% raw %}\u202e"""
PAGES = sorted(set(templates()) - {"base.html", "parts.html"})


def names_in(template: str) -> set[str]:
    """All names that a template needs, those of its frame included."""
    environment = rendering._ENVIRONMENT
    assert environment.loader is not None
    names: set[str] = set()
    for part in (template, "base.html"):
        source, _, _ = environment.loader.get_source(environment, part)
        names |= meta.find_undeclared_variables(environment.parse(source))
    return names - {"self", *environment.globals}


def hostile_context(template: str) -> dict[str, object]:
    context: dict[str, object] = dict.fromkeys(names_in(template), HOSTILE)
    if "facts" in context:
        context["facts"] = [(HOSTILE, HOSTILE)]
    if "qr" in context:
        context["qr"] = Markup("<svg></svg>")
    return context


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html)
    return parser.seen


@pytest.mark.parametrize("template", PAGES)
@pytest.mark.requirement("ASVS 1.2.1")
def test_hostile_words_stay_words(template: str) -> None:
    found = elements(render(template, hostile_context(template)))
    harmless = elements(render(template, {**hostile_context(template), **_plain(template)}))
    assert [tag for tag, _ in found] == [tag for tag, _ in harmless]
    assert not any(name.startswith("on") or name == "style" for _, attributes in found for name in attributes)


def _plain(template: str) -> dict[str, object]:
    names = names_in(template) - {"qr"}
    return {name: [("a", "b")] if name == "facts" else "plain" for name in names}


@pytest.mark.parametrize("template", PAGES)
def test_every_page_has_language_title_one_heading_and_no_inline_code(template: str) -> None:
    html = render(template, _plain(template) | {"qr": ""})
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert re.search(r"<title>[^<]+ · BTB Gateway</title>", html)
    assert html.count("<h1>") == 1
    assert "<style" not in html
    assert all(attributes.get("src") for tag, attributes in elements(html) if tag == "script")


@pytest.mark.parametrize("template", PAGES)
def test_only_pages_with_a_password_field_have_a_script(template: str) -> None:
    html = render(template, _plain(template) | {"qr": ""})
    assert ("<script" in html) == ('type="password"' in html) == (template in SCRIPTED)


@pytest.mark.parametrize("template", PAGES)
def test_every_form_is_a_post_with_its_proof_and_labels(template: str) -> None:
    found = elements(render(template, _plain(template) | {"qr": ""}))
    labels = {attributes["for"] for tag, attributes in found if tag == "label"}
    fields = [attributes for tag, attributes in found if tag == "input" and attributes.get("type") != "hidden"]
    assert {field["id"] for field in fields if "hidden" not in field} == labels
    forms = [attributes for tag, attributes in found if tag == "form"]
    assert all(form["method"] == "post" for form in forms)
    assert len(forms) == sum(attributes.get("name") == "csrf" for tag, attributes in found if tag == "input")


@pytest.mark.parametrize("template", PAGES)
def test_a_forgotten_name_is_an_error(template: str) -> None:
    context = hostile_context(template)
    context.pop("alert")
    with pytest.raises(UndefinedError):
        render(template, context)


@pytest.mark.requirement("ASVS 1.2.1")
def test_no_template_switches_escaping_off() -> None:
    folder = Path(rendering.__file__).parent / "templates"
    for file in folder.iterdir():
        assert not re.search(r"\|\s*safe|autoescape", file.read_text()), file.name
