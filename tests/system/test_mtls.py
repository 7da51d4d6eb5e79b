"""An application that takes connections from the gateway alone: its certificate, as the files have it, and no other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from .running import POLICY, Gateway, is_running, running, until
from .upstream import Upstream
from .wire import Answer

pytestmark = pytest.mark.system
HOST = "orders.btb.localhost"
SERVE = """
import contextlib, socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.load_verify_locations(sys.argv[2])
context.verify_mode = ssl.CERT_REQUIRED
def serve(accepted):
    accepted.settimeout(60)
    with contextlib.suppress(OSError), context.wrap_socket(accepted, True, do_handshake_on_connect=False) as secure:
        try:
            secure.do_handshake()
        except ssl.SSLError:
            secure.shutdown(socket.SHUT_WR)
            while secure.recv(65536):
                pass  # Closed with bytes unread, the alert would be lost.
            return
        while secure.recv(65536):
            serial = secure.getpeercert()["serialNumber"].encode()
            secure.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(serial), serial))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


class Files:
    """Where the settings say that the gateway's certificate is."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "own.pem", folder / "own.key"

    def take(self, leaf: trustme.LeafCert) -> str:
        """The serial number, as an application tells it."""
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.key.chmod(0o600)
        serial = f"{x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number:X}"
        return serial.zfill(len(serial) + len(serial) % 2)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def gateway(
    upstream: Upstream, authority: trustme.CA, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("mtls")
    roots, server = folder / "roots.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(roots))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(server))
    command = [sys.executable, "-c", SERVE, str(server), str(roots)]
    files.take(authority.issue_cert("gateway.example"))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as application:
        try:
            assert application.stdout is not None
            url = f"https://localhost:{int(application.stdout.readline())}"
            gateway = Gateway(folder, upstream, workers=1, policy=POLICY.replace('"UPSTREAM"', f'"{url}"', 1))
            own = f"upstream_certificate: {{certificate: {files.certificate}, private_key: {files.key}}}"
            text = gateway.config.read_text()
            gateway.config.write_text(text.replace("local_ca: true", f"local_ca: true, upstream_ca: {roots}, {own}"))
            with running(gateway):
                yield gateway
        finally:
            application.kill()


def ask(gateway: Gateway) -> Answer:
    with gateway.line(HOST) as line:
        return line.ask("GET", "/status", [("Host", HOST)])


def faults(gateway: Gateway) -> list[str]:
    """Of all requests that have ended, in their order."""
    outcomes = [each.get("outcome") or {} for each in gateway.records("--kind", "decision")]
    return [each["fault"] for each in outcomes if each.get("fault")]


def test_a_reload_shows_the_certificate_that_the_files_hold_now(
    gateway: Gateway, authority: trustme.CA, files: Files
) -> None:
    with gateway.line(HOST) as line:
        for _ in range(2):
            serial = files.take(authority.issue_cert("gateway.example"))
            assert line.ask("GET", "/status", [("Host", HOST)]).text != serial
            gateway.ask("reload")
            assert line.ask("GET", "/status", [("Host", HOST)]).text == serial


def test_a_worker_that_is_replaced_shows_it_too(gateway: Gateway, authority: trustme.CA, files: Files) -> None:
    serial = files.take(authority.issue_cert("gateway.example"))
    gateway.ask("reload")
    gateway.wait_until_ready(gateway.kill_seat("worker-0"))
    assert ask(gateway).text == serial


def test_files_that_do_not_fit_change_nothing(gateway: Gateway, authority: trustme.CA, files: Files) -> None:
    serial = files.take(authority.issue_cert("gateway.example"))
    gateway.ask("reload")
    files.key.write_bytes(authority.issue_cert("gateway.example").private_key_pem.bytes())
    ran = gateway.command("reload")
    assert ran.code != 0
    assert "tls.upstream_certificate" in ran.err + ran.out
    assert ask(gateway).text == serial


def test_one_that_the_application_refuses_is_a_fault_of_tls(
    gateway: Gateway, authority: trustme.CA, files: Files
) -> None:
    files.take(trustme.CA().issue_cert("gateway.example"))
    gateway.ask("reload")
    before = len(faults(gateway))
    assert [ask(gateway).status for _ in range(4)] == [502] * 4
    until(lambda: len(faults(gateway)) == before + 4)
    assert faults(gateway)[before:] == ["upstream-tls"] * 4
    serial = files.take(authority.issue_cert("gateway.example"))
    gateway.ask("reload")
    assert ask(gateway).text == serial


def test_its_private_key_is_in_no_file_of_ours_and_in_no_environment(gateway: Gateway, files: Files) -> None:
    secret = files.key.read_bytes().splitlines()[1]
    for path in gateway.folder.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    for pid in (gateway.pid, *gateway.seats().values()):
        assert is_running(pid)
        for name in ("environ", "cmdline"):
            assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()
