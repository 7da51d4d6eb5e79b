"""The page for emergencies, tried: its commands, as they stand there, against gateways that are in that state.

Paths of the page are those of the systemd installation, and lead here to the folder of the test. Systemd itself is
played: it starts and stops the gateway, and has the master key in the credential's place only while the service runs.
"""

import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.docs.pages import ROOT, blocks

from .disks import SmallDisk, small_disk
from .people import Authenticator, Person
from .running import POLICY, START_SECONDS, Gateway, running, until
from .upstream import Upstream

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]  # Dozens of commands, each with an interpreter of its own.
PAGE = ROOT / "docs" / "emergencies.md"
SOON_SECONDS = 20.0
NOT_HERE = ("journalctl", "timedatectl", "systemd-tmpfiles")
"""Commands of a host with systemd, which change nothing of ours."""
PARTNER = """\
  - name: partner
    host: "partner.btb.localhost"
    upstream: ["https://localhost:%d"]
    routes:
      - {path: "/**", methods: [GET], allow: public, why: "an application whose certificate has expired"}
tests:
"""
CA = trustme.CA()


def chapters() -> dict[str, list[str]]:
    """Code blocks by heading."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True)) | {"Emergencies": parts[0]}
    return {heading: blocks_of(text) for heading, text in found.items() if blocks_of(text)}


def blocks_of(text: str) -> list[str]:
    return [block for block in blocks(PAGE) if f"```\n{block}```" in text]


def says(words: str) -> str:
    """What the page quotes of a message; whatever it says must be what is said."""
    assert words in " ".join(PAGE.read_text().split()), f"{PAGE.name} doesn't say: {words}"
    return words


@dataclass
class Operator:
    """Somebody with root and the page."""

    gateway: Gateway
    folder: Path

    @property
    def paths(self) -> dict[str, str]:
        return {
            "/run/credentials/btb-gateway.service": f"{self.folder}/credentials",
            "/var/lib/btb-gateway": str(self.gateway.state),
            "/etc/btb-gateway": str(self.folder),
            "/root": f"{self.folder}/root",
            "/mnt/elsewhere": f"{self.folder}/elsewhere",
        }

    def follow(self, chapter: str, number: int, fails: tuple[str, ...] = (), **names: str) -> list[str]:
        """Give a block's lines one by one; what each printed. Those that hold one of `fails` end with status 1."""
        return [
            self.give(line, fails, names)
            for line in chapters()[chapter][number].splitlines()
            if not line.startswith(NOT_HERE)
        ]

    def give(self, line: str, fails: tuple[str, ...], names: dict[str, str]) -> str:
        if line.startswith("systemctl "):
            for verb in {"restart": ("stop", "start")}.get(line.split()[1], (line.split()[1],)):
                self.systemctl(verb)
            return ""
        for written, here in {**self.paths, **names}.items():
            assert written not in names or written in PAGE.read_text(), written
            line = line.replace(written, here)
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "BTB_GATEWAY_CONFIG": str(self.gateway.config),
        }
        ran = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        expected = 1 if any(each in line for each in fails) else 0
        assert ran.returncode == expected, f"{line}: status {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    def systemctl(self, verb: str) -> None:
        if verb == "stop":
            self.gateway.stop()
            self.credential.unlink(missing_ok=True)
        else:
            self.lend_the_key()
            self.gateway.start()

    @property
    def master(self) -> Path:
        return self.folder / "master.key"

    @property
    def credential(self) -> Path:
        return self.folder / "credentials" / "master-key"

    def lend_the_key(self) -> None:
        self.credential.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy(self.master, self.credential)

    def fails_to_start(self) -> str:
        """What it says."""
        self.lend_the_key()
        self.gateway.launch()
        assert self.gateway.wait() == 1
        self.credential.unlink(missing_ok=True)
        return self.gateway.log

    def put_certificate(self, where: Path, days: float) -> None:
        names = ("btb.localhost", "*.btb.localhost", "127.0.0.1")
        now = datetime.now(UTC)
        leaf = CA.issue_cert(*names, not_before=now - timedelta(days=90), not_after=now + timedelta(days=days))
        where.mkdir(exist_ok=True, parents=True)
        for name, content in (("fullchain.pem", leaf.cert_chain_pems[0]), ("key.pem", leaf.private_key_pem)):
            (where / name).unlink(missing_ok=True)
            content.write_to_path(str(where / name))


@pytest.fixture(scope="module")
def expired_upstream() -> Iterator[int]:
    """The port of a TLS server whose certificate is over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1)).configure_cert(context)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("emergency") / "disk", "96m") as disk:
        yield disk


@pytest.fixture(scope="module")
def operator(upstream: Upstream, disk: SmallDisk, expired_upstream: int) -> Iterator[Operator]:
    """With a gateway whose certificates are real ones, and whose state has a disk to itself."""
    folder = disk.path.parent
    policy = POLICY.replace("tests:\n", PARTNER % expired_upstream, 1)
    policy = policy.replace(
        "  auditor:", "  administrator: {permissions: [gateway.users, gateway.metrics]}\n  auditor:"
    )
    gateway = Gateway(folder, upstream, workers=1, policy=policy, state=disk.path / "state")
    operator = Operator(gateway, folder)
    files = "certificates: [{certificate: tls/fullchain.pem, private_key: tls/key.pem}], upstream_ca: ca.pem"
    settings = gateway.config.read_text().replace("local_ca: true", files)
    gateway.config.write_text(
        settings.replace("./key", str(operator.credential)).replace(f'"{gateway.state}"', str(gateway.state))
    )
    for name in ("bin", "credentials", "root/new", "root/escrow", "elsewhere"):
        (folder / name).mkdir(parents=True)
    script = folder / "bin" / "btb-gateway"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    script.chmod(0o755)
    (folder / "key").rename(operator.master)
    operator.put_certificate(folder / "tls", 90)
    CA.cert_pem.write_to_path(str(folder / "ca.pem"))
    gateway.state.mkdir(mode=0o750)
    CA.cert_pem.write_to_path(str(gateway.ca))
    operator.lend_the_key()
    with running(gateway):
        operator.follow("Emergencies", 1)
        yield operator
        assert gateway.stop() == 0


@pytest.fixture(scope="module")
def gateway(operator: Operator) -> Gateway:
    return operator.gateway


@pytest.fixture(scope="module")
def ada(gateway: Gateway) -> Person:
    return gateway.add_person("ada", "administrator@-", "support@acme")


@pytest.fixture(scope="module")
def sam(gateway: Gateway) -> Person:
    return gateway.add_person("sam", "support@acme")


@pytest.fixture(scope="module")
def orders(gateway: Gateway) -> str:
    return gateway.orders("/t/acme/orders/1")


def link_in(printed: str) -> str:
    (link,) = re.findall(r"^https://\S+/enrol/\S+$", printed, re.MULTILINE)
    return str(link)


def enrol(gateway: Gateway, name: str, printed: str) -> Person:
    """Somebody uses the link that a command printed."""
    browser, person = gateway.browser(), Person(name, f"{secrets.token_hex(8)} correct horse")
    page = browser.submit(browser.get(link_in(printed)), password=person.password, password_again=person.password)
    (secret,) = re.findall(r'class="secret"[^>]*>([^<]+)<', page.text)
    person.authenticator = Authenticator(secret.replace(" ", ""))
    assert browser.submit(page, code=person.authenticator.code()).status == 200
    return person


def states(gateway: Gateway) -> dict[str, str]:
    return {each["name"]: each["state"] for each in gateway.ask("user", "list")}


def fault_of(gateway: Gateway, request_id: str) -> str:
    outcome = until(lambda: gateway.record_of(request_id)["outcome"], SOON_SECONDS, "the outcome")
    return str(outcome["fault"])


# While it runs.


def test_what_everything_begins_with(operator: Operator) -> None:
    assert "worker-0" in "".join(operator.follow("Emergencies", 0))
    assert str(operator.master) in (operator.folder / "stopped.yaml").read_text()


@pytest.mark.requirement("ASVS 6.4.3")
def test_the_last_administrator_is_lost(operator: Operator, gateway: Gateway, ada: Person, orders: str) -> None:
    assert gateway.browser().sign_in(ada, orders).status == 200
    gateway.ask("user", "disable", "ada")
    listed, added = operator.follow("The last administrator is lost", 0)
    assert re.search(r"^ada .* disabled ", listed, re.MULTILINE)
    grace = enrol(gateway, "grace", added)
    assert states(gateway)["grace"] == "active"
    (printed,) = operator.follow("The last administrator is lost", 1)
    gateway.ask("user", "enable", "ada")
    again = enrol(gateway, "ada", printed)
    assert gateway.browser().sign_in(again, orders).status == 200
    added_people, _ = operator.follow("The last administrator is lost", 2)
    assert "grace" in added_people
    (event,) = [each for each in gateway.events("user:add") if each["name"] == grace.name]
    assert (event["grants"], bool(event["operator"])) == (["administrator@-"], True)
    assert ada.id in {each["user"] for each in gateway.events("enrolment:create")}


def test_an_account_in_wrong_hands(operator: Operator, gateway: Gateway, sam: Person, orders: str) -> None:
    eve = gateway.add_person("eve", "support@acme")
    gateway.add_token("billing-export", "administrator@-")
    hers, his = gateway.browser(), gateway.browser()
    assert (hers.sign_in(eve, orders).status, his.sign_in(sam, orders).status) == (200, 200)
    names = {"ada": "eve"}
    _, did, *_ = operator.follow("An administrator's account is in wrong hands", 0, **names)
    assert "/t/acme/orders/1" in did
    until(lambda: hers.status_of(orders) == {401}, SOON_SECONDS)
    assert his.status_of(orders) == {200}
    operator.follow("An administrator's account is in wrong hands", 1)
    until(lambda: his.status_of(orders) == {401}, SOON_SECONDS)
    rotated = operator.follow("An administrator's account is in wrong hands", 2)
    assert len(rotated) == len(gateway.events("key:rotate")) == 7
    back, _ = operator.follow("An administrator's account is in wrong hands", 3, **names)
    assert gateway.browser().sign_in(enrol(gateway, "eve", back), orders).status == 200
    for kind in ("user:disable", "token:revoke", "session:revoke", "user:reset", "user:enable"):
        assert gateway.events(says(kind)), kind
    # Which takes new settings of its own: no `reload` can be given meanwhile.
    until(lambda: gateway.events("key:retire"), 90, "the older seals to be retired")


def test_a_clock_that_is_wrong(operator: Operator, gateway: Gateway, orders: str) -> None:
    """Whether ours or the phone's: they differ by five minutes."""
    late = gateway.add_person("late", "support@acme")
    browser = gateway.browser()
    page = browser.type_password(late, orders)
    code = late.authenticator.at(int(datetime.now(UTC).timestamp() / 30) + 10)
    assert browser.submit(page, code=code).status != 200
    failures, _ = operator.follow("Nobody can sign in, and the clock is wrong", 0)
    assert late.id in failures or "late" in failures
    (event,) = gateway.events("sign-in:failure", user=late.id)
    assert event["reason"] == says("wrong-code")


def test_a_witness_that_is_away(operator: Operator, gateway: Gateway, sam: Person) -> None:
    settings = gateway.config.read_text()
    gateway.config.write_text(settings + 'audit: {witnesses: [{https: "https://127.0.0.1:9/checkpoints"}]}\n')
    gateway.ask("reload")
    gateway.ask("user", "unlock", sam.name)
    until(lambda: gateway.events("witness:failed"), SOON_SECONDS)
    failed, _ = operator.follow("A witness can't be reached", 0)
    assert "127.0.0.1:9" in failed
    assert gateway.browser().get(gateway.orders("/status")).status == 200
    gateway.config.write_text(settings)
    gateway.ask("reload")


def test_a_certificate_that_has_expired(operator: Operator, gateway: Gateway, orders: str) -> None:
    token = gateway.add_token("prometheus", "administrator@-")
    tls, new = operator.folder / "tls", operator.folder / "root" / "new"
    for days, words in ((-1, "expired on"), (5, "expires on")):
        operator.put_certificate(tls, days)
        assert says(words) in gateway.command("check").out
        gateway.ask("reload")
    soon, series = datetime.now(UTC).timestamp() + 6 * 86_400, "gateway_certificate_expiry_timestamp_seconds"
    until(lambda: soon - 2 * 86_400 < gateway.metrics(token)[series] < soon, SOON_SECONDS)
    operator.put_certificate(tls, -1)
    gateway.ask("reload")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        gateway.browser().get(gateway.orders("/status"))
    assert gateway.is_alive
    operator.put_certificate(new, 90)
    before, _, _, after, _ = operator.follow("A certificate has expired", 0)
    assert says("expired on") in before
    assert says("is good until") in after
    assert says("holds no intermediate") in after
    assert gateway.browser().get(gateway.orders("/status")).status == 200
    operator.put_certificate(new, 90)
    shutil.copy(new / "key.pem", tls / "key.pem")
    refused = gateway.command("reload")
    assert (refused.code, says("it belongs to another certificate") in refused.err) == (1, True)
    assert gateway.events(says("settings:reload-refused"))
    assert gateway.browser().get(gateway.orders("/status")).status == 200
    operator.put_certificate(tls, 90)
    gateway.ask("reload")


def test_an_application_whose_certificate_has_expired(operator: Operator, gateway: Gateway) -> None:
    answer = gateway.browser().get(gateway.url("partner.btb.localhost", "/anything"))
    assert answer.status == 502
    request_id = answer.answer.header("X-Request-Id") or answer.answer.problem["request_id"]
    assert fault_of(gateway, request_id) == says("upstream-tls")
    (shown,) = operator.follow("A certificate has expired", 1, orders="partner")
    assert says("upstream-tls") in shown


def test_a_disk_that_is_full(operator: Operator, gateway: Gateway, disk: SmallDisk, sam: Person) -> None:
    name = gateway.ask("snapshot", "create")["name"]
    disk.fill()
    with gateway.line("orders.btb.localhost") as line:
        for number in range(20_000):
            answer = line.ask("GET", f"/open/{number}/{'x' * 4000}", [("Host", "orders.btb.localhost")])
            if answer.status != 200:
                break
    assert (answer.status, answer.problem["reason"]) == (503, "journal")
    assert says("the disk under the journal is nearly full") in gateway.log
    assert gateway.ops("/readyz").status == 200
    operator.follow("The disk is full", 0)
    assert states(gateway)[sam.name] == "disabled"
    operator.follow("The disk is full", 1, **{"20261122T144911Z.snapshot": name})
    disk.free()
    until(lambda: gateway.browser().get(gateway.orders("/status")).status == 200, SOON_SECONDS)
    healed, verified = operator.follow("The disk is full", 2)
    assert says("journal:healed") in healed
    assert says("no break") in verified


# At a start.


def test_a_damaged_store_and_the_snapshot(operator: Operator, gateway: Gateway) -> None:
    gateway.add_token("billing-export", "administrator@-")
    mia = gateway.add_person("mia", "support@acme")
    name = gateway.ask("snapshot", "create")["name"]
    gateway.ask("user", "ungrant", "mia", "support@acme")
    operator.systemctl("stop")
    store = gateway.state / "store" / "store.db"
    whole = {path: path.read_bytes() for path in store.parent.iterdir()}

    def damage(content: bytes) -> None:
        for path in whole:
            path.unlink(missing_ok=True)
        store.write_bytes(content)

    for content, words in (
        (b"", "the store has no seals, and it had"),
        (secrets.token_bytes(99_999), "file is damaged"),
    ):
        damage(content)
        assert says(words) in operator.fails_to_start()
        assert gateway.events(says("store:tampered"))
    operator.lend_the_key()
    checked, listed = operator.follow("The store is damaged", 0, fails=("store check",))
    assert says("the store's file is damaged") in checked
    assert name in listed
    operator.credential.unlink()
    names = {"20261122T144911Z.snapshot": name}
    *_, restored = operator.follow("A snapshot has to be restored", 0, **names)[:4]
    assert f"{says('Done again')}, since the journal has it: grant:remove" in restored
    good, people, _ = operator.follow("A snapshot has to be restored", 1)
    assert says("Good.") in good
    assert re.search(r"^mia .* active +- *$", people, re.MULTILINE), people
    assert gateway.events(says("snapshot:restore"))
    assert gateway.events("grant:remove", reason=says("snapshot restore"), user=mia.id)


def test_a_keeper_that_does_not_start(operator: Operator, gateway: Gateway) -> None:
    operator.systemctl("stop")
    (gateway.state / "signing" / "key").unlink()
    operator.lend_the_key()
    gateway.launch()
    until(lambda: "can't start: the signing key" in gateway.log, START_SECONDS)
    assert says("can't start:") in gateway.log
    assert says("is not there") in gateway.log
    operator.follow("The keeper doesn't start", 0)
    assert gateway.is_ready
    assert says("no break") in gateway.command("audit", "verify").out


def test_a_master_key_that_is_another(operator: Operator, gateway: Gateway) -> None:
    shutil.copy(operator.master, operator.folder / "root" / "escrow" / "master.key")
    operator.systemctl("stop")
    operator.master.write_text(secrets.token_hex(32))
    operator.lend_the_key()
    another = gateway.command("run")
    assert (another.code, says("does not open with this master key") in another.err) == (1, True)
    operator.follow("The master key is lost", 0)
    assert gateway.is_ready


def test_a_master_key_that_is_gone(operator: Operator, gateway: Gateway, ada: Person, orders: str) -> None:
    zoe = gateway.add_person("zoe", "support@acme")
    gateway.ask("token", "create", "billing-export", "--grant", "administrator@-")
    operator.systemctl("stop")
    operator.master.unlink()
    gone = gateway.command("run")
    assert (gone.code, says("can't be read: No such file or directory") in gone.err) == (1, True)
    assert says("no break") in gateway.command("audit", "verify").out
    operator.follow("The master key is lost", 1)
    _, verified, added, _, people, tokens = operator.follow("The master key is lost", 2)
    assert says("no break") in verified
    assert zoe.name in added
    assert zoe.name in people
    assert "billing-export" in tokens
    _, printed, *_ = operator.follow("The master key is lost", 3)
    assert gateway.browser().sign_in(enrol(gateway, ada.name, printed), orders).status == 200
    assert gateway.events(says("store:reseal"))


def test_every_block_of_the_page_is_given_above() -> None:
    given = re.findall(r'follow\("([^"]+)", (\d)', Path(__file__).read_text())
    there_are = [(chapter, str(number)) for chapter, found in chapters().items() for number in range(len(found))]
    assert sorted(set(given)) == sorted(there_are)
