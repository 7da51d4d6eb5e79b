"""Sessions, by the thousand if need be, as sign-ins would have left them in the store: by its own functions, sealed,
before the gateway starts. The forms would take a quarter of an hour, most of it for hashing passwords."""

from contextlib import closing
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection

from gateway.config.load import load_settings
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.identity.cookies import SESSION_COOKIE
from gateway.identity.sessions import Minter, begin, give_host_token
from gateway.identity.users import require_person
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import follow
from gateway.store.seals import Seals
from gateway.supervisor.equipment import open_keyring
from gateway.supervisor.offline import run_offline

SECONDS = 3600
_ONE_AT_A_TIME = Lock()
"""Alembic, which makes the store, is no library for threads."""


def signed_in(settings_file: Path, host: str, count: int) -> list[str]:
    """The cookies of somebody with access to acme, and to nobody else."""
    loaded = load_settings(settings_file)
    with _ONE_AT_A_TIME:
        run_offline(loaded, "tenant.add", {"names": ["acme", "globex"]})
        run_offline(loaded, "user.add", {"name": "ann", "grants": ["support@acme"]})
    settings, clock, entropy = loaded.settings, SystemClock(), SystemEntropy()
    keyring = open_keyring(settings, clock, entropy)
    minter, seals = Minter(keyring.load("session"), clock, entropy), Seals(keyring.load("seal"))

    def work(connection: Connection) -> list[str]:
        person, until, cookies = require_person(connection, "ann").id, clock.now() + SECONDS, []
        for _ in range(count):
            session = begin(connection, minter, person, until=until, client="bench")
            cookies.append(f"{SESSION_COOKIE}={give_host_token(connection, minter, session.id, host)}")
        return cookies

    with closing(Store.open(settings.store, settings.state_dir, seals)) as store:
        cookies = store.run(work)
        follow(store, Anchor(settings.state_dir, seals))
    return cookies
