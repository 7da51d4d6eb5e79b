"""Processes that are killed, drained, reloaded, and refused at their start."""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .running import POLICY, Gateway, is_running, running, until
from .upstream import Upstream
from .wire import TEXT, request

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
REPLACED_SECONDS = 30.0
DRAIN_SECONDS = 6
KILL_SECONDS = 5
"""What a process is given beyond the drain's deadline."""
NEW_ROUTE = '      - {path: "/new/**", methods: [GET], allow: public, why: "new in this version"}\n'


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One of this file's own, since it is hurt here."""
    more = f"timeouts: {{drain: {DRAIN_SECONDS}s}}\n"
    with running(Gateway(tmp_path_factory.mktemp("processes"), upstream, more=more)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def monitor(gateway: Gateway) -> str:
    return gateway.add_token("monitor", "monitor@-")


def statuses(gateway: Gateway, path: str, count: int = 20) -> set[int]:
    """Of requests on connections of their own, a few at once, so that each worker gets some."""

    def ask(number: int) -> int:
        with gateway.line(ORDERS) as line:
            return line.ask("GET", f"{path}?{number}", [("Host", ORDERS)]).status

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(ask, range(count)))


# Killed.


def replaced(gateway: Gateway, seat: str, victim: int) -> None:
    """By another process, with a record that says so."""
    gateway.wait_until_ready(victim)
    until(lambda: gateway.events("process:replaced", process=seat, pid=victim), REPLACED_SECONDS)


def test_a_killed_worker_is_replaced_and_nobody_notices(gateway: Gateway, monitor: str) -> None:
    for seat in ("worker-0", "worker-1"):
        victim = gateway.kill_seat(seat)
        # Who had not been accepted yet waits in the socket, which the successor inherits.
        assert statuses(gateway, f"/open/killed-{seat}") == {200}
        replaced(gateway, seat, victim)
        assert len(gateway.upstream.mentions(f"/open/killed-{seat}")) == 20
    assert gateway.metrics(monitor)['gateway_processes_replaced_total{process="worker"}'] >= 2


def test_a_killed_portal_is_replaced_and_sign_in_goes_on(gateway: Gateway) -> None:
    person = gateway.add_person("portal@acme.example", "support@acme", home="acme")
    victim = gateway.kill_seat("portal")
    # Applications don't need it.
    assert statuses(gateway, "/open/portal-is-away") == {200}
    replaced(gateway, "portal", victim)
    page = gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/portal-is-back"))
    assert page.status == 200


def test_a_killed_keeper_is_replaced_and_requests_go_on(gateway: Gateway) -> None:
    person = gateway.add_person("keeper@acme.example", "support@acme", home="acme")
    victim = gateway.kill_seat("keeper")
    assert statuses(gateway, "/open/keeper-is-away") == {200}
    page = gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/keeper-is-away"))
    assert page.status == 200
    replaced(gateway, "keeper", victim)
    checkpoints = gateway.state / "checkpoints"
    newest = max(checkpoints.glob("0*.json"))
    until(lambda: max(checkpoints.glob("0*.json")) > newest, 20, "a checkpoint of the new keeper")
    assert gateway.ask("session", "revoke", "--user", person.name) == {"sessions_ended": 1}


def test_the_journal_is_whole_after_all_that(gateway: Gateway) -> None:
    verified = gateway.command("audit", "verify", "--json")
    assert (verified.code, verified.json["ok"]) == (0, True), verified.out + verified.err


# Reloaded.


def reload_failed(gateway: Gateway, monitor: str) -> float:
    return gateway.metrics(monitor)["gateway_config_reload_failed"]


@pytest.fixture
def original(gateway: Gateway) -> Iterator[None]:
    """The policy of these tests is in force again afterwards."""
    gateway.wait_until_ready()
    yield
    gateway.write_settings()
    gateway.write_policy(POLICY)
    gateway.ask("reload")


def with_new_route() -> str:
    return POLICY.replace("    routes:\n", "    routes:\n" + NEW_ROUTE, 1)


@pytest.mark.usefixtures("original")
def test_a_new_policy_is_taken_by_every_worker(gateway: Gateway, monitor: str) -> None:
    assert statuses(gateway, "/new/before") == {403}
    gateway.write_policy(with_new_route())
    old = gateway.ask("status")["config"]
    ran = gateway.command("reload")
    new = gateway.ask("status")["config"]
    assert (ran.code, new in ran.out, new != old) == (0, True, True), ran
    assert statuses(gateway, "/new/after") == {200}
    records = {gateway.record_of(each.request_id)["config"] for each in gateway.upstream.mentions("/new/after")}
    assert records == {new}
    assert until(lambda: gateway.metrics(monitor).get(f'gateway_config_info{{hash="{new}"}}')) == 1
    (event,) = gateway.events("settings:reload", new=new)
    assert event["old"] == old


@pytest.mark.usefixtures("original")
def test_sighup_takes_a_new_policy(gateway: Gateway) -> None:
    gateway.write_policy(with_new_route())
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: statuses(gateway, "/new/sighup", 10) == {200})


BROKEN = {
    "no YAML": (POLICY + "  - {", "policy.yaml"),
    "an unknown permission": (POLICY.replace("{permission: rooms}", "{permission: roms}"), "roms"),
    "a test of its own that fails": (POLICY.replace("is: deny, because: tenant", "is: allow"), "support sees orders"),
}


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize(("policy", "named"), BROKEN.values(), ids=BROKEN)
def test_a_broken_policy_is_refused_and_the_old_one_serves(
    gateway: Gateway, monitor: str, policy: str, named: str
) -> None:
    assert reload_failed(gateway, monitor) == 0
    before, config = len(gateway.events("settings:reload-refused")), gateway.ask("status")["config"]
    gateway.write_policy(policy.replace("    routes:\n", "    routes:\n" + NEW_ROUTE, 1))
    ran = gateway.command("reload")
    assert (ran.code, named in ran.err) == (1, True), ran
    assert gateway.ask("status")["config"] == config
    assert statuses(gateway, "/open/still-the-old-one") == {200}
    assert statuses(gateway, "/new/refused") == {403}
    assert until(lambda: reload_failed(gateway, monitor)) == 1
    refused = until(lambda: gateway.events("settings:reload-refused")[before:])
    assert len(refused) == 1
    assert refused[0]["old"] == config
    assert any(named in problem for problem in refused[0]["problems"])

    gateway.write_policy(POLICY)
    assert gateway.command("reload").code == 0
    until(lambda: reload_failed(gateway, monitor) == 0)


@pytest.mark.usefixtures("original")
def test_what_needs_a_restart_is_said_and_not_half_done(gateway: Gateway) -> None:
    gateway.write_policy(with_new_route())
    gateway.config.write_text(gateway.config.read_text().replace("workers: 2", "workers: 1"))
    ran = gateway.command("reload")
    assert (ran.code, "workers" in ran.err) == (1, True), ran
    assert statuses(gateway, "/new/restart") == {403}


@pytest.mark.usefixtures("original")
@pytest.mark.advisory("GHSA-x883-2vmg-xwf7")
@pytest.mark.requirement("ASVS 8.3.2", "SP 800-207 tenet 4", "SP 800-207 tenet 6")
def test_authority_that_a_new_policy_takes_ends_at_once(gateway: Gateway) -> None:
    path = "/open/until-reload"
    with gateway.line(ORDERS) as line:
        line.send(request("GET", f"{path}?do=events", [("Host", ORDERS)]))
        assert line.head().status == 200
        gateway.write_policy(POLICY.replace('path: "/open/**"', 'path: "/shut/**"'))
        gateway.ask("reload")
        since = time.monotonic()
        line.read_to_end()
        assert time.monotonic() - since < 1


# Refused at the start.


@pytest.fixture
def idle(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    """One that does not run yet."""
    gateway = Gateway(tmp_path, upstream, workers=1)
    yield gateway
    gateway.kill()


def refusal(gateway: Gateway) -> str:
    """What a start that fails says."""
    gateway.launch()
    assert gateway.process is not None
    code = gateway.process.wait(20)
    gateway.process = None
    assert (code, "is ready" in gateway.out, "Traceback" in gateway.log) == (1, False, False), gateway.log
    return gateway.log


def test_a_policy_whose_test_fails_is_refused_at_the_start(idle: Gateway) -> None:
    idle.write_policy(BROKEN["a test of its own that fails"][0])
    said = refusal(idle)
    assert "support sees orders of its tenant only" in said
    assert "policy.yaml" in said


@pytest.mark.parametrize("name", ["https", "http", "ops"])
def test_a_port_in_use(idle: Gateway, name: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", idle.ports[name]))
        taken.listen()
        said = refusal(idle)
    assert f"listen.{name}" in said
    assert str(idle.ports[name]) in said
    assert "in use" in said


def test_two_gateways_on_one_state(gateway: Gateway, idle: Gateway) -> None:
    idle.config.write_text(idle.config.read_text().replace(str(idle.state), str(gateway.state)))
    (idle.folder / "key").write_text((gateway.folder / "key").read_text())
    assert "another gateway" in refusal(idle)
    assert statuses(gateway, "/open/alone") == {200}


@pytest.mark.advisory("CVE-2026-54762")
def test_no_master_key(idle: Gateway) -> None:
    (idle.folder / "key").unlink()
    said = refusal(idle)
    assert "master_key" in said
    assert str(idle.folder / "key") in said


@pytest.mark.advisory("CVE-2026-54762")
def test_the_wrong_master_key(idle: Gateway) -> None:
    idle.start()
    assert idle.stop() == 0
    (idle.folder / "key").write_text("ab" * 32)
    (idle.folder / "err.log").unlink()
    assert "key" in refusal(idle)


MISTAKES = """\
domain: btb.localhost
state_dir: ./state
master_key: {file: ./state/key}
listen: {https: "127.0.0.1:99999", http: "127.0.0.1:8080", ops: "0.0.0.0:9464"}
workers: no
tls: {local_ca: true}
polcy: policy.yaml
sessions: {idle: 5:30, absolute: 12h}
"""
PLACES = {
    "master_key": 3,
    "listen.https": 4,
    "workers": 5,
    "polcy": 7,
    "sessions.idle": 8,
}


def test_five_mistakes_are_told_at_once(idle: Gateway) -> None:
    idle.config.write_text(MISTAKES)
    said = refusal(idle)
    checked = idle.command("check")
    assert checked.code == 1
    listed = idle.command("check", "--json")
    assert listed.code == 1
    problems = {each["path"]: each for each in listed.json}
    assert PLACES.keys() <= problems.keys(), listed.json
    for path, line in PLACES.items():
        problem = problems[path]
        assert (problem["line"], problem["column"] > 0, bool(problem["hint"])) == (line, True, True), problem
        for text in (said, checked.err):
            assert f"{idle.config}:{line}:" in text
            assert path in text
            assert problem["hint"] in text
    assert "policy" in problems["polcy"]["hint"]


def test_check_likes_what_is_good(idle: Gateway) -> None:
    assert idle.command("check", "--json").json == []
    assert idle.command("check").code == 0
    idle.write_policy(BROKEN["a test of its own that fails"][0])
    checked = idle.command("check", "--json")
    assert checked.code == 1
    (problem,) = checked.json
    assert (Path(problem["file"]).name, problem["line"] > 0) == ("policy.yaml", True)


def test_a_wrong_call_is_another_exit_code(idle: Gateway) -> None:
    assert idle.command("session", "revoke").code == 2
    assert idle.command("nonsense").code == 2


# Drained. The last in this file: it ends the gateway.


def test_sigterm_lets_what_runs_finish(gateway: Gateway) -> None:
    gateway.wait_until_ready()
    person = gateway.add_person("drain@acme.example", "support@acme", home="acme")
    browser = gateway.browser()
    assert browser.sign_in(person, gateway.orders("/t/acme/orders/drain")).status == 200
    children = gateway.seats()

    total = 3_000_000
    download = browser.open(gateway.orders(f"/t/acme/orders/drain?do=download&seconds=3&bytes={total}"))
    assert download.head().status == 200
    endless = browser.open(gateway.orders("/t/acme/orders/drain?do=download&seconds=60&bytes=60000000"))
    assert endless.head().status == 200
    head, chat = browser.websocket(gateway.orders("/t/acme/orders/drain"))
    assert head.status == 101
    chat.send("still here")
    assert chat.receive() == (TEXT, b"still here")

    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    since = time.monotonic()
    # A WebSocket can't be finished, so it is told to come back; a download can.
    assert chat.receive_close() == 1012
    assert len(download.read(total)) == total
    endless.read_to_end()
    assert gateway.wait() == 0
    took = time.monotonic() - since
    assert took < DRAIN_SECONDS + KILL_SECONDS + 2, f"{took:.1f} s"
    assert not [pid for pid in children.values() if is_running(pid)]
    with pytest.raises(ConnectionRefusedError):
        gateway.line(ORDERS)
    for each in (download, endless, chat.line):
        each.close()


def test_after_a_stop_the_journal_is_closed_and_whole(gateway: Gateway) -> None:
    verified = gateway.command("audit", "verify", "--json")
    assert verified.code == 0, verified.out + verified.err
    assert verified.json["torn"] == []
    # Commands work without a gateway as well, and it starts again on what they left.
    added = gateway.command("user", "add", "offline@acme.example", "--json")
    assert (added.code, added.json["link"] is not None) == (0, True), added
    gateway.start()
    assert statuses(gateway, "/open/again") == {200}
    assert [each["name"] for each in gateway.ask("user", "list")].count("offline@acme.example") == 1


def test_children_end_when_the_supervisor_is_killed(gateway: Gateway) -> None:
    """Nobody is left who would serve without being replaced, drained or reloaded."""
    children = gateway.seats()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait(5)
    gateway.process = None
    until(lambda: not [pid for pid in children.values() if is_running(pid)], DRAIN_SECONDS + KILL_SECONDS)
    assert gateway.command("status").code == 1
    assert gateway.command("audit", "verify").code == 0
