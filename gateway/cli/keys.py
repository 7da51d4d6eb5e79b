"""`keys list`."""

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Keys: what for, who may read them, what losing them costs. Never the keys themselves.")


@family.callback()
def _family() -> None:
    """So that `list` stays a verb of its own while it is the only one."""


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """All live versions of every key."""
    keys = ask(config, "keys.list")["keys"]
    if json:
        show.as_json(keys)
    else:
        show.table(keys, ("purpose", "id", "created", "is_current", "readers", "does", "loss"), "no keys")
