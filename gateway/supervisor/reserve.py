"""Room that is kept for a full disk: what is recorded on it then, and what takes authority from somebody.

Law: such an action writes only into blocks that were there before: the zeros at the end of the journal's segments
(`audit.segments`), and those of the store's log (`store.sqlite`). Workers, and so everybody who is not a command or a
sign-out, stop before either is needed (`audit.journal`).
"""

import logging
import os
from pathlib import Path

from gateway.foundation.errors import GatewayError
from gateway.metrics import Metrics
from gateway.store.engine import Store

KEEP_SECONDS = 2.0
log = logging.getLogger(__name__)


class Reserve:
    """The store's part of it. Blocks; called every `KEEP_SECONDS`."""

    def __init__(self, store: Store, state_dir: Path, metrics: Metrics) -> None:
        self._store, self._state_dir, self._metrics = store, state_dir, metrics
        self._is_there = True

    def __repr__(self) -> str:
        return f"<Reserve {'there' if self._is_there else 'missing'}>"

    def keep(self) -> None:
        """Make it again as soon as there is room for it, and tell how things are."""
        try:
            self._store.reserve()
            status = os.statvfs(self._state_dir)
            self._metrics.set("gateway_disk_free_bytes", status.f_bavail * status.f_frsize)
            is_there = True
        except (GatewayError, OSError) as error:
            is_there = False
            if self._is_there:
                log.error("nothing is reserved for a full disk: %s", error)
        self._is_there = is_there
        self._metrics.set("gateway_reserve_ready", float(is_there))
