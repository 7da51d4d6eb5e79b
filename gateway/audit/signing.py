"""The keeper's side of checkpoints: which chains are open, and their signature into `<state_dir>/checkpoints`.

Law: a checkpoint is published by one `link` of a synced file under its number, which fails if the number is taken; then
the folder is synced, and that is the commit point. After any failure the state is read from disk again: what is there
counts, what is not there did not happen; the key that signs follows what counts (`signing_key`). Heads come from the
chains' files (`follower`), never from another process.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.chain import Opening
from gateway.audit.checkpoint import BadCheckpoint, ChainState, Checkpoint, Ending, file_hash, parse
from gateway.audit.events import EventName, event, stamp
from gateway.audit.files import Files, SystemFiles, is_live, syncing, write_all
from gateway.audit.follower import ChainBroken, JournalFollower
from gateway.audit.journal import FOLDER as JOURNAL
from gateway.audit.reader import Torn, end_of_content
from gateway.audit.signing_key import SigningKey
from gateway.audit.tidy import tidy
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import Conflict, GatewayError, JournalUnavailable
from gateway.foundation.keyring import KeySet, write_private

FOLDER = "checkpoints"
FIRST_KEY = "first-key.json"
"""The public key of checkpoint 1, under which all the others were introduced: what an auditor starts from."""
_UNPUBLISHED = "unpublished"
_NUMBERED = "[0-9]" * 8 + ".json"


def checkpoint_name(number: int) -> str:
    return f"{number:08d}.json"


@dataclass(frozen=True, slots=True)
class Followed:
    """How far the open chains have come, and which have ended."""

    states: Mapping[str, ChainState]
    torn: tuple[Torn, ...]
    """Torn ends of chains whose process has died. To be recorded (`torn_event`) before the `sign` that ends them: after
    a crash in between they are found, and recorded, once more."""


class CheckpointWriter:
    """One in the whole gateway. Calls block: reading, hashing and two syncs for each checkpoint."""

    def __init__(
        self,
        state_dir: Path,
        sealing: KeySet,
        node: str,
        clock: Clock,
        entropy: Entropy,
        files: Files | None = None,
    ) -> None:
        self._journal, self._folder = state_dir / JOURNAL, state_dir / FOLDER
        self._node, self._clock = node, clock
        self._files = files or SystemFiles()
        self._key = SigningKey(state_dir, sealing, clock, entropy, self._files)
        self._is_loaded = False
        self._last: Checkpoint | None = None
        self._last_hash = ""
        self._followers: dict[str, JournalFollower] = {}
        self.troubles: dict[str, str] = {}
        """Chains that could not be followed the last time, and why; their heads stay where they were."""
        self._broken: dict[str, str] = {}

    def __repr__(self) -> str:
        number = self._last.number if self._last else 0
        return f"CheckpointWriter({number}, chains={len(self._open)}, troubles={len(self.troubles)})"

    @property
    def last(self) -> Checkpoint | None:
        return self._last

    def seal_with(self, keys: KeySet) -> None:
        """The signing keys to come, after a rotation; what rests already opens with any of them."""
        self._key.sealing = keys

    def open_chain(self, opening: Opening) -> Checkpoint:
        """Sign the opening of a chain that has no record yet. Raises Conflict if it has, or was opened before;
        JournalUnavailable to be tried again; SyncFailed to end the process."""
        self._load()
        state = ChainState.begin(opening)
        if self._last is not None and self._last.chains.get(opening.chain) == state:
            return self._last
        if opening.chain in self._open:
            raise Conflict(f"the chain {opening.chain} was opened before")
        if end_of_content(self._journal / opening.chain / "00000001.jsonl"):
            raise Conflict(f"the chain {opening.chain} has records already")
        return self._publish({**self._open, opening.chain: state})

    def follow(self) -> Followed:
        """Read on in every open chain. Raises like `open_chain`."""
        self._load()
        self.troubles = dict(self._broken)
        found = {name: self._follow(name, state) for name, state in self._open.items()}
        torn = tuple(torn for _, torn in found.values() if torn is not None)
        return Followed({name: state for name, (state, _) in found.items()}, torn)

    def sign(self, followed: Followed | None = None) -> Checkpoint | None:
        """A checkpoint over what was followed, by default now; None if that was signed already, and no other key is
        due. Raises like `open_chain`."""
        found = (followed or self.follow()).states
        self._load()
        # A chain that was opened meanwhile stays as it was opened, and none goes back.
        states = {name: max(state, found.get(name, state), key=_progress) for name, state in self._open.items()}
        if states == self._open and not (self._last is not None and self._key.is_due):
            return None
        checkpoint = self._publish(states)
        for name, state in states.items():
            if state.ended is not None:
                self._tidy(name)
        return checkpoint

    @property
    def _open(self) -> dict[str, ChainState]:
        return self._last.open_chains if self._last else {}

    # Loading

    def _load(self) -> None:
        if self._is_loaded:
            return
        try:
            self._files.make_folder(self._folder)
            # A crash may have left a published file under its first name as well: never write to that again.
            (self._folder / _UNPUBLISHED).unlink(missing_ok=True)
            # And a name that is not durable yet.
            with syncing(self._folder):
                self._files.sync_folder(self._folder.parent)
                self._files.sync_folder(self._folder)
            names = sorted(path.name for path in self._folder.glob(_NUMBERED))
            self._key.load(has_begun=bool(names))
            if names:
                content = (self._folder / names[-1]).read_bytes()
                self._last, self._last_hash = self._parse(names[-1], content), file_hash(content)
            self._key.settle(self._last)
            if self._last is None:
                first = json.dumps({"version": 1, "key": self._key.public})
                write_private(self._folder / FIRST_KEY, first.encode())
        except OSError as error:
            raise JournalUnavailable(f"{error.filename or self._folder} can't be used: {error.strerror}") from error
        self._is_loaded = True

    def _parse(self, name: str, content: bytes) -> Checkpoint:
        try:
            checkpoint = parse(content, self._key.signers)
        except BadCheckpoint as error:
            raise GatewayError(f"{self._folder / name} {error}: nothing is signed on top of it") from error
        if checkpoint_name(checkpoint.number) != name:
            raise GatewayError(f"{self._folder / name} holds the checkpoint {checkpoint.number}")
        return checkpoint

    # Following

    def _follower(self, name: str, state: ChainState) -> JournalFollower:
        if name not in self._followers:
            self._followers[name] = JournalFollower(self._journal / name, state.opening, self._files)
        return self._followers[name]

    def _follow(self, name: str, state: ChainState) -> tuple[ChainState, Torn | None]:
        """Where a chain is now, and what a crash has torn at its end. One that can't be followed stays where it was
        signed, and is in `troubles`."""
        if name in self._broken:
            return state, None
        follower = self._follower(name, state)
        try:
            # Asked before reading: nothing is written by a process that was dead before.
            is_dead = not is_live(self._journal / name, self._files)
            head = follower.advance(state.head)
            ended: Ending | None = "closed" if follower.is_closed else "crashed" if is_dead else None
            torn = follower.torn() if ended == "crashed" else None
        except ChainBroken as error:
            # For good: past its break a chain proves nothing.
            self.troubles[name] = self._broken[name] = str(error)
            return state, None
        except OSError as error:
            self.troubles[name] = f"{name} can't be read: {error}"
            return state, None
        return ChainState(state.opening, head.seq, head.hash, ended, torn.hash if torn is not None else ""), torn

    def _tidy(self, name: str) -> None:
        self._followers.pop(name, None)
        with contextlib.suppress(OSError):
            tidy(self._journal / name)

    # Publishing

    def _publish(self, chains: dict[str, ChainState]) -> Checkpoint:
        # Until this is through, only the disk knows.
        self._is_loaded = False
        try:
            checkpoint, content = self._sign(chains)
            self._write(self._folder / checkpoint_name(checkpoint.number), content)
            self._key.settle(checkpoint)
        except OSError as error:
            raise JournalUnavailable(f"the next checkpoint can't be written: {error}") from error
        self._last, self._last_hash, self._is_loaded = checkpoint, file_hash(content), True
        return checkpoint

    def _sign(self, chains: dict[str, ChainState]) -> tuple[Checkpoint, bytes]:
        checkpoint = Checkpoint(
            number=self._last.number + 1 if self._last else 1,
            time=stamp(self._clock.now()),
            node=self._node,
            prev=self._last_hash,
            key=self._key.public,
            next_key=self._key.prepare_next() if self._key.is_due else "",
            chains=chains,
        )
        return checkpoint, self._key.sign(checkpoint)

    def _write(self, path: Path, content: bytes) -> None:
        """See the law."""
        temporary = self._folder / _UNPUBLISHED
        descriptor = self._files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(self._files, descriptor, content, 0)
            with syncing(temporary):
                self._files.fdatasync(descriptor)
        finally:
            self._files.close(descriptor)
        self._files.link(temporary, path)
        self._files.unlink(temporary)
        with syncing(self._folder):
            self._files.sync_folder(self._folder)


def torn_event(torn: Torn, time: float) -> bytes:
    """The record that marks a torn end; written to the keeper's own chain."""
    return event(
        EventName.JOURNAL_TORN_LINE,
        time,
        chain=torn.chain,
        file=torn.file,
        line=torn.line,
        offset=torn.offset,
        bytes=torn.bytes,
    )


def _progress(state: ChainState) -> tuple[int, bool]:
    return state.seq, state.ended is not None
