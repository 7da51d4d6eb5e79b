"""The anchor: how far the store had come, kept outside of it. An older state in its place is found by it.

Law: the anchor is never ahead of the store, and never goes back. It is encrypted: only we can write one. Whoever puts
back all of `state_dir` as it once was puts back the anchor with it: that is found by a checkpoint of the journal
that was kept elsewhere.
"""

from pathlib import Path

from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.foundation.keyring import write_private
from gateway.store.past import Past, Stamp
from gateway.store.seals import Seals

_NAME = "anchor/store"
_BOUND_TO = "anchor/2"
"""By its format."""


class Anchor:
    def __init__(self, state_dir: Path, seals: Seals) -> None:
        self.path, self.seals = state_dir / _NAME, seals

    def __repr__(self) -> str:
        return f"Anchor({str(self.path)!r})"

    def read(self) -> Past | None:
        """None if there is none. Raises StoreTampered, or GatewayError if it can't be read."""
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GatewayError(f"{self.path} can't be read: {error.strerror}") from error
        stamp, writers = self.seals.unwrap(sealed, _BOUND_TO)
        return Past(Stamp(*stamp), writers)

    def is_current(self) -> bool:
        """Whether the current version of the key has encrypted it. Raises OSError."""
        return self.seals.is_current(self.path.read_bytes())

    def epoch(self) -> int:
        """0 if it doesn't say."""
        try:
            past = self.read()
        except StoreTampered:
            return 0
        return past.stamp.epoch if past else 0

    def write(self, past: Past) -> None:
        """Durably. Raises GatewayError."""
        try:
            write_private(self.path, self.seals.wrap(past, _BOUND_TO))
        except OSError as error:
            raise GatewayError(f"{self.path} can't be written: {error.strerror}") from error
