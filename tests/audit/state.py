"""A state folder, and everybody who writes to it."""

import os
from collections.abc import Iterable
from pathlib import Path

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.events import EventName, decision, event, identity_fragment, outcome, route_fragment, ruling
from gateway.audit.files import SystemFiles
from gateway.audit.journal import Journal, Limits
from gateway.audit.known import Known
from gateway.audit.reader import Torn
from gateway.audit.report import Report
from gateway.audit.signing import CheckpointWriter, torn_event
from gateway.audit.signing_key import SigningKey
from gateway.audit.verify import load_first_key, verify
from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Credential, Grant, Principal

ALICE = Principal(
    id="usr_1",
    name="alice",
    home="acme",
    grants=frozenset({Grant("support", "acme"), Grant("finance", "acme")}),
    credential=Credential("session", "ses_1"),
    session="ses_1",
    amr=("pwd", "otp"),
)
KEYS = KeySet((Key("journal", "k1", 0.0, b"\x07" * 32),))
SMALL = Limits(commit_interval=0.0, check_interval=0.0, deadline_seconds=0.3, segment_bytes=4096)


class Records:
    """Fragments with request ids that count."""

    identity = identity_fragment(ALICE)
    route = route_fragment("orders", "orders:/t/{tenant}/**", "https://10.0.3.11:8443")

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.count = 0

    def decision(self, **changes: object) -> bytes:
        self.count += 1
        self.clock.advance(0.001)
        values: dict[str, object] = {
            "config": "c" * 64,
            "tenant": "acme",
            "method": "GET",
            "host": "orders.btb.localhost",
            "path": "/t/acme/orders/7",
            "decision": "allow",
            "reason": "granted",
            "client": "192.0.2.7",
        }
        made = ruling(self.identity, self.route, **(values | changes))  # type: ignore[arg-type]  # Changes of a test.
        return decision(made, self.clock.now(), f"req-{self.count}".encode(), self.clock.now() - 12.5)

    def outcome(self) -> bytes:
        """Of the decision that was made last."""
        return outcome(f"req-{self.count}".encode(), 200, 0, 512, 3.25, time=self.clock.now())

    def event(self) -> bytes:
        return event(EventName.SIGN_OUT, self.clock.now(), user="usr_1")


class Gateway:
    """A state folder and everybody who writes to it."""

    def __init__(self, state_dir: Path, files: SystemFiles | None = None) -> None:
        self.state_dir = state_dir
        self.files = files or SystemFiles()
        self.clock, self.entropy = FixedClock(), CountingEntropy()
        self.records = Records(self.clock)
        self.keeper = self.new_keeper()

    def new_keeper(self) -> CheckpointWriter:
        return CheckpointWriter(self.state_dir, KEYS, "node-a", self.clock, self.entropy, self.files)

    def journal(self, process: str = "worker-1", limits: Limits = SMALL, **options: object) -> Journal:
        """Prepared, its opening signed."""
        options.setdefault("files", self.files)
        journal = Journal(
            self.state_dir, process, "node-a", clock=self.clock, entropy=self.entropy, limits=limits, **options
        )
        self.keeper.open_chain(journal.prepare())
        return journal

    def recover(self) -> list[Torn]:
        """What a keeper does when it starts: marks torn ends in its own chain, and ends what has died."""
        self.keeper = self.new_keeper()
        torn = list(self.keeper.follow().torn)
        journal = self.journal("keeper")
        for each in torn:
            journal.commit_now(torn_event(each, self.clock.now()))
        journal.close_now()
        self.keeper.sign()
        return torn

    def verify(self, *known: Known) -> Report:
        return verified(self.state_dir, known)

    def sign(self) -> Checkpoint | None:
        return self.keeper.sign()

    def lines(self, journal: Journal) -> list[bytes]:
        folder = self.state_dir / "journal" / journal.opening.chain
        content = b"".join(path.read_bytes().rstrip(b"\0") for path in sorted(folder.glob("*.jsonl")))
        return content.splitlines(keepends=True)


def verified(state_dir: Path, known: Iterable[Known] = ()) -> Report:
    return verify(state_dir, load_first_key(state_dir / "checkpoints" / "first-key.json"), (known,))


def stolen_key(state_dir: Path) -> SigningKey:
    """The key in force, as whoever has `state_dir` and the journal's key can take it."""
    key = SigningKey(state_dir, KEYS, FixedClock(), CountingEntropy(), SystemFiles())
    key.load(has_begun=True)
    return key


def die(journal: Journal) -> None:
    """The process is gone: nothing is trimmed or closed, only the lock ends."""
    writer = journal._writer
    if writer._lock is not None:
        os.close(writer._lock)
        writer._lock = None
