"""A keeper's signing by itself, evolving once for each line that it is given: somebody reads its memory meanwhile."""

import sys
from pathlib import Path

from gateway.audit.chain import Opening
from gateway.audit.signing import CheckpointWriter
from gateway.audit.signing_key import PERIOD_SECONDS
from gateway.foundation.clock import FixedClock, isoformat
from gateway.foundation.entropy import SystemEntropy

from .state import KEYS


def main(state_dir: Path) -> None:
    clock = FixedClock()
    writer = CheckpointWriter(state_dir, KEYS, "node-a", clock, SystemEntropy())
    for number in range(1000):
        writer.open_chain(Opening(f"worker-{number}", "node-a", "worker-0", isoformat(clock.now())))
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        clock.advance(PERIOD_SECONDS)
        writer.sign()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
