"""Commands that the pages quote can be given: a whole line is parsed; in a sentence the verb and its options exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from gateway.cli.app import app

from .pages import PAGES, ROOT, blocks, inline_code, name_of

_LINE = re.compile(
    r"^(?:\$ )?(?:docker compose exec gateway )?(?:btb-gateway|\.venv/bin/python -m gateway) (.+?)(?:\s+#.*)?$", re.M
)
_INLINE = re.compile(r"(?:btb-gateway|python -m gateway) (.+)")
_TARGET = re.compile(r"^make (\w+)", re.M)
ROOT_COMMAND = typer.main.get_command(app)


def quoted_lines(page: Path) -> list[str]:
    return [line for block in blocks(page) for line in _LINE.findall(block)]


def find_verb(words: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    command = ROOT_COMMAND
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_can_be_given_as_they_stand(page: Path) -> None:
    for line in quoted_lines(page):
        verb, words = find_verb(shlex.split(line))
        assert not isinstance(verb, TyperGroup), line
        verb.make_context(line, words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_words_in_sentences_name_verbs_and_options_that_exist(page: Path) -> None:
    for code in inline_code(page):
        match = _INLINE.fullmatch(code)
        if match is None or "VERB" in code:
            continue
        verb, words = find_verb(match[1].replace("[", " ").replace("]", " ").split())
        takes_words = any(isinstance(each, TyperArgument) for each in verb.params)
        known = {option for each in verb.params for option in each.opts} | {"--help", "-h"}
        assert verb is not ROOT_COMMAND or words[0].startswith("-"), code
        assert {word for word in words if word.startswith("--")} <= known, code
        assert takes_words or not words or words[0].startswith("-"), code


def test_every_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {target for page in PAGES for block in blocks(page) for target in _TARGET.findall(block)}
    named |= {code.removeprefix("make ") for page in PAGES for code in inline_code(page) if code.startswith("make ")}
    assert {"demo", "test", "docs"} <= named
    assert [target for target in named if f"\n{target}:" not in makefile] == []
