"""Settings and a policy that are good, on ports that are free, and what is built of them."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyfiles import Keyring
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.seals import Seals
from gateway.supervisor.build import read_configuration
from tests.ports import free_ports

MASTER = b"a master key of thirty-two bytes or more"
POLICY = """\
permissions: [order_details]
roles:
  support: {permissions: [order_details]}
  monitoring: {permissions: [gateway.metrics]}
applications:
  - name: orders
    host: orders.btb.localhost
    upstream: ["http://127.0.0.1:9001"]
    routes:
      - {path: /status, methods: [GET], allow: public, why: status page}
      - {path: "/t/{tenant}/orders/**", methods: [GET], allow: {permission: order_details, otp_within: 5m}}
tests:
  - name: support sees orders of its tenant only
    as: {grants: ["support@acme"], otp_age: 1m}
    expect:
      - {request: "GET https://orders.btb.localhost/t/acme/orders/7", is: allow}
      - {request: "GET https://orders.btb.localhost/t/other/orders/7", is: deny, because: tenant}
"""


def seals_in(state_dir: Path) -> Seals:
    return Seals(Keyring(state_dir / "keys", MASTER, FixedClock(), SystemEntropy()).load("seal"))


class Place:
    """The folder of a gateway: its two files, which a test may change, and its master key."""

    master = MASTER

    def __init__(self, folder: Path) -> None:
        self.folder, self.state_dir = folder, folder / "state"
        self.settings_path, self.policy_path = folder / "gateway.yaml", folder / "policy.yaml"
        self.key_path = folder / "key"
        self.key_path.write_bytes(MASTER)
        self.key_path.chmod(0o600)
        https, http, ops = free_ports(3)
        self.settings_path.write_text(f"""\
domain: btb.localhost
state_dir: state
master_key: {{file: key}}
node: node-1
workers: 2
listen: {{https: "127.0.0.1:{https}", http: "127.0.0.1:{http}", ops: "127.0.0.1:{ops}"}}
tls: {{local_ca: true}}
""")
        self.policy_path.write_text(POLICY)

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def seals(self) -> Seals:
        return seals_in(self.state_dir)

    def configuration(self):
        return read_configuration(self.settings_path)

    def records(self):
        """Every record of the journal, by its own word."""
        lines = []
        for path in sorted((self.state_dir / "journal").glob("*/*.jsonl")):
            lines += path.read_bytes().rstrip(b"\0").splitlines()
        return [json.loads(line) for line in lines]

    def everything(self) -> bytes:
        """All that is under the state folder."""
        return b"\n".join(path.read_bytes() for path in self.state_dir.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory):
    """A store without rows, made once: each test gets a copy of its files."""
    state_dir = tmp_path_factory.mktemp("empty")
    with closing(Store.open("sqlite", state_dir, seals_in(state_dir))) as store:
        migrate(store)
    return state_dir


@pytest.fixture
def furnished(place, empty_state):
    """The place, with an empty store in it."""
    shutil.copytree(empty_state, place.state_dir)
    return place
