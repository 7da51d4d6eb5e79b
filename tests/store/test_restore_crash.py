"""A restore that is killed at any of its steps leaves a store that opens: the one from before, or the restored one."""

import os
import signal
import sys
from contextlib import closing

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.store import integrity, snapshot, tenants
from gateway.store.anchor import Anchor
from gateway.store.engine import Store

KEY = Key("snapshot", "k1", 0.0, b"\1" * 32)
CLOCK = FixedClock(1_795_355_100.0)
FILE_CALLS = frozenset({"open", "os.link", "os.rename", "os.remove"})
"""Audit events (PEP 578) at which the process may die; what a step is made of is not spelt out here."""
MOST_STEPS = 200
STORE_FILES = {
    "migration.lock",
    *(f"store.db{aside}{log}" for aside in ("", ".before-restore") for log in ("", "-wal", "-shm")),
}


def restore_and_die(step: int, work) -> bool:
    """In a process of its own, killed before its `step`th file operation in the state's folder; False: it was done."""
    child = os.fork()
    if child == 0:
        left = step

        def die(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in FILE_CALLS and "/state/" in str(arguments[0]):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_killed_at_every_step(store, world, url, state_dir, tmp_path, seals):
    anchor = Anchor(state_dir, seals)
    assert integrity.prepare(store, anchor).problem is None
    world.tenant("acme")
    taken = snapshot.create(store, tmp_path / "snapshots", KEY, CLOCK, CountingEntropy())
    world.tenant("later")
    assert integrity.follow(store, anchor) is None
    store.close()
    aside = state_dir / "store" / "store.db.before-restore"
    seen = []
    for step in range(MOST_STEPS):
        was_killed = restore_and_die(
            step, lambda: snapshot.restore(taken.path, KeySet((KEY,)), seals, state_dir, CLOCK)
        )
        had_two_names = (state_dir / "store" / "store.db").stat().st_nlink == 2
        # A candidate has the next epoch: whoever writes in this folder would put it in the store's place later.
        assert set(os.listdir(state_dir / "store")) <= STORE_FILES, step
        with closing(Store.open(url, state_dir, seals)) as found:
            assert integrity.prepare(found, anchor).problem is None, step
            names = found.read(tenants.open_names)
        seen.append((had_two_names, len(names)))
        if not was_killed:
            break
        if names == {"acme"}:
            # It was done but for what follows; and the one from before is kept.
            assert aside.exists()
    assert seen[-1] == (False, 1)
    assert (False, 2) in seen
    assert (True, 2) in seen, "the moment with two names was never met"
