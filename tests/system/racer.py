"""A portal's sign-in in a process of its own, on a store that others have open as well: `python -m tests.system.racer
CONFIG NAME PASSWORD ADDRESS`.

It passes the password, says `ready`, waits for a line with a code on standard input, and says what came of it:
`SignedIn` or why not.
"""

import asyncio
import sys
from pathlib import Path

from gateway.config.load import load_settings
from gateway.foundation.addresses import parse_address
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.identity.passwords import Bounds, Passwords
from gateway.identity.sign_in import SignIn, SignInKeys, SignInSettings
from gateway.identity.sign_in_steps import Client, PasswordAccepted, Refused
from gateway.store.engine import Result, Store, Work
from gateway.store.seals import Seals
from gateway.supervisor.equipment import open_keyring

PATIENCE_SECONDS = 60.0


class PatientStore(Store):
    """Waits as long as a busy machine takes: this is about who wins, and not about how soon."""

    async def arun(self, work: Work[Result], deadline: float = PATIENCE_SECONDS) -> Result:
        return await super().arun(work, deadline)


async def race(config: Path, name: str, password: str, address: str) -> None:
    settings, clock, entropy = load_settings(config).settings, SystemClock(), SystemEntropy()
    keyring = open_keyring(settings, clock, entropy)
    keys = SignInKeys(*(keyring.load(purpose) for purpose in ("session", "hand-over", "factor")))
    lives = SignInSettings(settings.login_host, settings.sessions.idle, settings.sessions.absolute)
    store = PatientStore.open(settings.store, settings.state_dir, Seals(keyring.load("seal")))
    passwords = Passwords(entropy, bounds=Bounds(deadline_seconds=PATIENCE_SECONDS))
    sign_in, client = SignIn(store, keys, passwords, lives, clock, entropy), Client(parse_address(address))
    accepted = await sign_in.password(None, name, password, client)
    assert isinstance(accepted, PasswordAccepted), accepted
    print("ready", flush=True)
    code = sys.stdin.readline().strip()
    came = await sign_in.code(accepted.pending, code, client)
    print(came.why if isinstance(came, Refused) else type(came).__name__, flush=True)
    passwords.close()
    store.close()


if __name__ == "__main__":
    config, *words = sys.argv[1:]
    asyncio.run(race(Path(config), *words))
