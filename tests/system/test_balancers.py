"""Real balancers in front of a real gateway: whom its record names, and whose the attempts are that it counts."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest

from tests.ports import free_port, free_ports

from .browser import Browser
from .running import SETTINGS, Gateway, running, until
from .upstream import Upstream
from .wire import Line

pytestmark = pytest.mark.system
HOST = "orders.btb.localhost"
BALANCERS = {"one": "127.0.0.101", "two": "127.0.0.102", "summed": "127.0.0.103", "nginx": "127.0.0.104"}
"""HAProxy with version 1, with version 2, and with a checksum in it; and nginx."""
REFUSED = (ssl.SSLError, ConnectionError)
HAPROXY = """
global
  nbthread 1
  stats socket $folder/stats
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  default-server inter 100ms fall 1 rise 1
listen one
  bind 127.0.0.1:$one
  server gateway 127.0.0.1:$proxied source 127.0.0.101 send-proxy check
listen two
  bind 127.0.0.1:$two
  server gateway 127.0.0.1:$proxied source 127.0.0.102 send-proxy-v2 check
listen summed
  bind 127.0.0.1:$summed
  server gateway 127.0.0.1:$proxied source 127.0.0.103 send-proxy-v2 proxy-v2-options crc32c,unique-id
  unique-id-format %[uuid]
listen unlisted
  bind 127.0.0.1:$unlisted
  server gateway 127.0.0.1:$proxied source 127.0.0.105 send-proxy-v2
listen silent
  bind 127.0.0.1:$silent
  server gateway 127.0.0.1:$proxied source 127.0.0.101
"""
NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
pid $folder/nginx.pid;
error_log stderr;
daemon off;
master_process off;
events {}
stream {
  server { listen 127.0.0.1:$nginx; proxy_pass 127.0.0.1:$proxied; proxy_bind 127.0.0.104; proxy_protocol on; }
}
"""


@dataclass
class Balanced(Gateway):
    """One that is reached through a balancer."""

    through: int = 0

    def line(self, server_name: str | None, *, source: str = "127.0.0.1") -> Line:
        return Line(self.through, self.ca, server_name, source)


@dataclass(frozen=True)
class Scene:
    gateway: Balanced
    ports: dict[str, int]
    token: str

    def refused(self, why: str) -> float:
        series = f'gateway_proxied_refused_total{{why="{why}"}}'
        # A worker tells its totals each second.
        (told,) = until(lambda: [value for name, value in self.gateway.metrics(self.token).items() if name == series])
        return told


@pytest.fixture(scope="module")
def scene(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("b")
    names = (*BALANCERS, "unlisted", "silent")
    ports, proxied = dict(zip(names, free_ports(len(names)), strict=True)), free_port()
    gateway = Balanced(folder / "gateway", upstream, workers=1)
    peers = ", ".join(f'"{address}"' for address in BALANCERS.values())
    listener = f'listen: {{proxied: {{address: "127.0.0.1:{proxied}", from: [{peers}]}}, '
    assert "listen: {" in SETTINGS
    gateway.config.write_text(gateway.config.read_text().replace("listen: {", listener))
    given = {**ports, "proxied": proxied, "folder": folder}
    for name, text in (("haproxy.cfg", HAPROXY), ("nginx.conf", NGINX)):
        (folder / name).write_text(Template(text).substitute(given))
    with ExitStack() as stack:
        stack.enter_context(running(gateway))
        for command in (
            ["/usr/sbin/haproxy", "-db", "-f", str(folder / "haproxy.cfg")],
            ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        ):
            log = stack.enter_context((folder / Path(command[0]).name).open("wb"))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(process.terminate)
        for port in ports.values():
            until(lambda port=port: is_open(port), what=f"a balancer on {port}")  # type: ignore[misc]
        yield Scene(gateway, {**ports, "proxied": proxied}, gateway.add_token("monitor", "monitor@-"))


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(("port", "balancer"), BALANCERS.items())
def test_the_record_has_the_client_and_the_balancer(scene: Scene, port: str, balancer: str) -> None:
    gateway, source = scene.gateway, "127.0.0.111"
    gateway.through = scene.ports[port]
    with gateway.line(HOST, source=source) as line:
        for _ in range(2):
            assert line.ask("GET", f"/status?{port}", [("Host", HOST)]).status == 200
    arrived = gateway.upstream.mentions(f"/status?{port}")
    assert [each.values("X-Forwarded-For") for each in arrived] == [[source]] * 2
    records = [gateway.record_of(each.request_id) for each in arrived]
    assert [(each["client"], each["via"]) for each in records] == [(source, balancer)] * 2


def test_a_reload_gives_it_the_certificate_that_all_have(scene: Scene) -> None:
    gateway, serials = scene.gateway, []
    for _ in range(2):
        gateway.ask("reload")
        for port in (scene.ports["two"], gateway.ports["https"]):
            gateway.through = port
            with gateway.line(HOST) as line:
                serials.append((line.socket.getpeercert() or {})["serialNumber"])
    assert serials[0] == serials[1] != serials[2] == serials[3]


def test_attempts_are_counted_for_the_client(scene: Scene) -> None:
    gateway, source = scene.gateway, "127.0.0.112"
    gateway.through = scene.ports["two"]
    person = gateway.add_person("behind@acme.example", "support@acme")
    browser = Browser(gateway, source)
    page = browser.get(gateway.orders("/t/acme/orders/balanced"))
    browser.submit(page, username=person.name, password="not this one")
    assert len(gateway.events("sign-in:failure", client=source)) == 1
    signed_in = browser.sign_in(person, gateway.orders("/t/acme/orders/balanced"))
    assert signed_in.status == 200
    assert len(gateway.events("sign-in:success", client=source)) == 1


def test_a_balancer_that_is_not_listed_gets_nothing(scene: Scene) -> None:
    before = scene.refused("peer")
    scene.gateway.through = scene.ports["unlisted"]
    with pytest.raises(REFUSED):
        scene.gateway.line(HOST)
    until(lambda: scene.refused("peer") == before + 1)


def test_one_that_does_not_speak_the_protocol_gets_nothing(scene: Scene) -> None:
    before = scene.refused("header")
    scene.gateway.through = scene.ports["silent"]
    with pytest.raises(REFUSED):
        scene.gateway.line(HOST)
    until(lambda: scene.refused("header") == before + 1)


def test_checks_of_health_find_it_well(scene: Scene) -> None:
    """Of HAProxy with the header of each version; and they are no error here."""
    until(lambda: [status for status in checks(scene) if status == "L4OK"] == ["L4OK"] * 2)
    assert scene.refused("late") == 0


def checks(scene: Scene) -> list[str]:
    """The column check_status of each server that is checked."""
    with closing(socket.socket(socket.AF_UNIX)) as line:
        line.connect(str(scene.gateway.folder.parent / "stats"))
        line.sendall(b"show stat\n")
        rows = b"".join(iter(lambda: line.recv(65536), b"")).decode().removeprefix("# ").split("\n")
    column = rows[0].split(",").index("check_status")
    return [row.split(",")[column] for row in rows[1:] if ",gateway," in row and row.split(",")[column]]


@pytest.mark.parametrize(("port", "begins"), [("https", ()), ("http", (b"HTTP/1.1 400 ",))])
def test_other_listeners_take_no_header(scene: Scene, port: str, begins: tuple[bytes, ...]) -> None:
    """TLS says nothing, or that this is none; port http that it is no request."""
    with socket.create_connection(("127.0.0.1", scene.gateway.ports[port]), 20) as line:
        line.sendall(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 443\r\nGET /status HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
        answered = b""
        with suppress(ConnectionResetError):
            answered = line.recv(65536)
    assert answered.startswith(begins) if begins else not answered.startswith((b"HTTP", b"\x16"))
