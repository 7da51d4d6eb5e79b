import subprocess
import sys

import pytest

from gateway import __version__
from gateway.cli.app import run

FAMILIES = ("tenant", "user", "token", "session", "policy", "audit", "snapshot", "keys")


@pytest.mark.parametrize("typed", [[], *([family] for family in FAMILIES)])
def test_help(typed, capsys):
    assert run([*typed, "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: btb-gateway")


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"btb-gateway {__version__}\n"


def test_the_module_is_the_command():
    finished = subprocess.run([sys.executable, "-m", "gateway", "check", "--nonsense"], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "--nonsense" in finished.stderr


def test_help_does_not_import_what_only_verbs_need():
    """A `--help` that takes seconds is not asked twice."""
    heavy = "pydantic", "ruamel.yaml", "sqlalchemy", "aiohttp", "cryptography", "rich.table"
    script = f"import sys, gateway.cli.app as a; a.run(['--help']); print(sorted(sys.modules.keys() & set({heavy!r})))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_every_verb_of_a_gateway_takes_a_settings_file():
    from typer.main import get_command

    from gateway.cli.app import app

    verbs = {
        f"{name} {verb}".strip(): command
        for name, family in get_command(app).commands.items()
        for verb, command in getattr(family, "commands", {"": family}).items()
    }
    without = [name for name, verb in verbs.items() if not any("--config" in each.opts for each in verb.params)]
    assert without == ["demo"]
