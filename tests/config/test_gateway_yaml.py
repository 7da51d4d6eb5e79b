"""The example that we ship says what its comments say."""

import re
from pathlib import Path

from gateway.config.load import load_settings
from gateway.config.parse import parse_yaml

EXAMPLE = Path(__file__).parents[2] / "config" / "gateway.yaml"
OPTION = re.compile(r"# (workers|store|sessions|limits|timeouts|snapshots|log_level): ")


def test_the_example_is_valid():
    loaded = load_settings(EXAMPLE)
    assert loaded.settings.domain == "btb.localhost"
    assert loaded.settings.state_dir == EXAMPLE.parent / "var"
    assert loaded.settings.policy == EXAMPLE.parent / "policy.yaml"


def test_what_it_shows_in_comments_are_the_defaults(tmp_path):
    text = EXAMPLE.read_text()
    shown = "\n".join(line.removeprefix("# ") if OPTION.match(line) else line for line in text.splitlines())
    assert len(parse_yaml(shown, "").value) == len(parse_yaml(text, "").value) + 7
    copy = tmp_path / "gateway.yaml"
    copy.write_text(shown)
    plain = tmp_path / "plain.yaml"
    plain.write_text(text)
    assert load_settings(copy).settings == load_settings(plain).settings
