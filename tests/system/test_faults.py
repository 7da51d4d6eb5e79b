"""The table, cell by cell: each fault happens to a gateway that serves, and each promise is asked of what was seen.

The short form lets every fault happen once. `make faults` is the long one (`BTB_FAULTS=20`): so many rounds, at times
that chance chooses. Three gateways, for the journal, the processes and the store, have their faults side by side.
"""

import os
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from .disks import PoweredDisk, powered_disk
from .fault_causes import CAUSES, command
from .fault_observing import Observation, create_token, observe
from .fault_promises import CHECKS
from .fault_table import FAULTS, HOUSES, PROMISES, Fault, applies
from .running import Gateway
from .upstream import Upstream

ROUNDS = int(os.environ.get("BTB_FAULTS", "1"))
SEED = int(os.environ.get("BTB_SEED", str(random.randrange(1 << 32))))
ROUND_SECONDS = 300
pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(600 + ROUND_SECONDS * ROUNDS),
    # See test_crash: a server that dies before the handshake leaves its client's socket to the collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]
Observed = dict[str, list[Observation | BaseException]]


class House:
    """One gateway, on a disk of its own, and what happens to it."""

    def __init__(self, name: str, gateway: Gateway, disk: PoweredDisk) -> None:
        self.name, self.gateway, self.disk = name, gateway, disk
        self.observed: Observed = {fault.name: [] for fault in FAULTS if fault.house == name}

    def run(self) -> None:
        """A round that fails is the failure of its own fault: the others happen all the same."""
        self.gateway.start()
        command(self.gateway, "tenant.add", names=["acme"])
        monitor = create_token(self.gateway, "prometheus", "monitor@-")
        token = create_token(self.gateway, "asking", "support@acme")
        chance = random.Random(f"{SEED}/{self.name}")
        for number in range(ROUNDS):
            for fault in FAULTS:
                if fault.house == self.name:
                    try:
                        seen = observe(self.gateway, self.disk, fault, number, chance, monitor, token)
                    except Exception as failure:  # noqa: BLE001 - raised where its promises are asked.
                        self.observed[fault.name].append(failure)
                    else:
                        self.observed[fault.name].append(seen)


class Houses:
    def __init__(self, houses: dict[str, House], done: dict[str, Future[None]]) -> None:
        self._houses, self._done = houses, done

    def of(self, fault: Fault) -> tuple[Gateway, list[Observation]]:
        """Once everything has happened to its gateway, so that a promise is asked of one that is well."""
        self._done[fault.house].result()
        house, seen = self._houses[fault.house], []
        for each in house.observed[fault.name]:
            if isinstance(each, BaseException):
                raise AssertionError(f"{fault.name} went wrong, with BTB_SEED={SEED}") from each
            seen.append(each)
        assert len(seen) == ROUNDS
        return house.gateway, seen


@pytest.fixture(scope="module")
def houses(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Houses]:
    """Those that the tests of this run ask for."""
    print(f"BTB_SEED={SEED}")
    asked = [item for item in request.session.items if item.nodeid.startswith(request.node.nodeid)]
    wanted = {item.callspec.params["fault"].house for item in asked if hasattr(item, "callspec")}
    built: dict[str, House] = {}
    with ExitStack() as stack:
        for name in filter(wanted.__contains__, HOUSES):
            folder = tmp_path_factory.mktemp(name)
            disk = stack.enter_context(powered_disk(folder))
            gateway = Gateway(folder / "gateway", upstream, workers=1, state=disk.path / "state")
            stack.callback(gateway.kill)
            built[name] = House(name, gateway, disk)
        pool = stack.enter_context(ThreadPoolExecutor(len(built)))
        yield Houses(built, {name: pool.submit(house.run) for name, house in built.items()})


CELLS = [(fault, promise) for fault in FAULTS for promise in PROMISES if applies(fault, promise)]


@pytest.mark.parametrize(("fault", "promise"), CELLS, ids=[f"{fault.name}-{promise}" for fault, promise in CELLS])
@pytest.mark.requirement("promise 1", "ASVS 16.5.2", "ASVS 16.5.3")
def test_promise(houses: Houses, fault: Fault, promise: str) -> None:
    gateway, observations = houses.of(fault)
    CHECKS[promise](gateway, observations)
    if promise == "heals":
        slowest = max(seen.healed - seen.began for seen in observations)
        asked = sum(len(seen.seen) for seen in observations)
        print(f"{fault.name}: {len(observations)} times, {asked} requests, served again after {slowest:.1f} s at most")


def test_the_table_is_whole() -> None:
    assert CHECKS.keys() == PROMISES.keys()
    assert CAUSES.keys() == {fault.name for fault in FAULTS}
    for fault in FAULTS:
        assert fault.cells.keys() == PROMISES.keys()
        assert all(cell and cell != "n/a" for cell in fault.cells.values())
