"""Examples on the pages are what the gateway takes, and says."""

import re
import shlex
from pathlib import Path

import pytest

from gateway.cli.app import run
from gateway.config.check import validate
from gateway.config.parse import parse_yaml
from gateway.config.schema import Settings
from gateway.policy.cases import run_cases
from gateway.policy.compile import compile_policy
from gateway.policy.schema import PolicyFile
from gateway.supervisor.reload import NEED_A_RESTART

from .pages import ROOT, blocks

DOCS = ROOT / "docs"
_EXPLAINED = re.compile(r"^\$ btb-gateway (policy explain .+)\n((?:.+\n)+)", re.MULTILINE)


@pytest.mark.requirement("ASVS 8.1.1")
def test_the_whole_policy_compiles_and_keeps_its_tests() -> None:
    (text,) = [block for block in blocks(DOCS / "policy.md", "yaml") if block.startswith("version: 1")]
    file = validate(parse_yaml(text, "policy.md"), PolicyFile)
    assert run_cases(compile_policy(file), file.tests) == []
    assert len(file.tests) == 3


@pytest.mark.parametrize("block", [block for block in blocks(DOCS / "policy.md", "yaml") if "version" not in block])
def test_pieces_of_a_policy_have_its_shape(block: str) -> None:
    validate(parse_yaml(block, "policy.md"), PolicyFile)


def test_settings_for_an_auditor_are_whole() -> None:
    (text,) = blocks(DOCS / "auditors.md", "yaml")
    validate(parse_yaml(text, "gateway.yaml"), Settings, {"folder": Path("/somewhere")})


@pytest.mark.parametrize(
    ("command", "said"), [pair for block in blocks(DOCS / "policy.md") for pair in _EXPLAINED.findall(block)]
)
def test_explanations_are_what_is_said(capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    assert run([*shlex.split(command), "--config", str(ROOT / "config" / "gateway.yaml")]) == 1
    assert capsys.readouterr().out == said


def test_what_needs_a_restart() -> None:
    (sentence,) = re.findall(r"^(.+) need a restart; a reload", (DOCS / "operators.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(NEED_A_RESTART)
    assert set(NEED_A_RESTART) <= Settings.model_fields.keys()
