"""A whole gateway whose application is told another host, another path and a password: switched by reloads."""

from collections.abc import Iterator

import pytest

from .running import POLICY, Gateway, running
from .upstream import Arrived, Upstream
from .wire import Answer

pytestmark = pytest.mark.system
TERMS = """\
    host_header: orders.internal
    strip_prefix: /open
    request_headers: {set: {Authorization: {file: password}, X-Key: {env: BTB_ORDERS}}}
    response_headers: {set: {X-Frame-Options: DENY}}
    routes:
      - {path: "/open/**", methods: [GET], allow: public, why: "what anybody may see"}
      - {path: /status, methods: [GET], allow: public, why: "status page", strip_prefix: /, maintenance: false}
  - name: others
    host: "others.btb.localhost"
    upstream: ["UPSTREAM"]
    routes:
"""


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    policy = POLICY.partition("tests:")[0].replace("    routes:\n", TERMS, 1)
    gateway = Gateway(tmp_path_factory.mktemp("carried"), upstream, workers=1, policy=policy)
    gateway.environment = {"BTB_ORDERS": "canary-of-the-environment"}
    set_password(gateway, "Basic canary-1")
    with running(gateway):
        yield gateway


def set_password(gateway: Gateway, text: str) -> None:
    path = gateway.folder / "password"
    path.write_text(f"{text}\n")
    path.chmod(0o600)


def ask(gateway: Gateway, path: str) -> Answer:
    with gateway.line("orders.btb.localhost") as line:
        return line.ask("GET", path, [("Host", f"orders.btb.localhost:{gateway.ports['https']}")])


def arrived(gateway: Gateway, path: str) -> Arrived:
    answer = ask(gateway, path)
    assert (answer.status, answer.values("X-Frame-Options")) == (200, ["DENY"])
    return gateway.upstream.arrived[-1]


@pytest.mark.requirement("ASVS 13.3.1")
def test_it_is_told_what_the_policy_says_and_nobody_else_is(gateway: Gateway) -> None:
    seen = arrived(gateway, "/open/a?b=/open")
    assert (seen.target, seen.values("X-Forwarded-Prefix")) == ("/a?b=/open", ["/open"])
    assert seen.values("Host") == ["orders.internal"]
    assert seen.values("X-Forwarded-Host") == [f"orders.btb.localhost:{gateway.ports['https']}"]
    assert seen.values("X-Key") == ["canary-of-the-environment"]
    assert seen.values("Authorization") == ["Basic canary-1"]
    set_password(gateway, "Basic canary-2")
    gateway.ask("reload")
    assert arrived(gateway, "/open/a").values("Authorization") == ["Basic canary-2"]
    told = gateway.command("policy", "explain", "GET", gateway.orders("/open/a"))
    assert "sets authorization, sets x-key" in told.out
    set_password(gateway, "Basic canary-3\r\nX-Gateway-User: root")
    refused = gateway.command("reload")
    assert refused.code == 1
    assert "no value of a header" in refused.err
    assert arrived(gateway, "/open/a").values("Authorization") == ["Basic canary-2"]
    set_password(gateway, "Basic canary-2")
    records = b"".join(path.read_bytes() for path in gateway.state.rglob("*") if path.is_file())
    for text in (gateway.log, gateway.out, told.out, refused.err, records.decode("latin-1")):
        assert "canary" not in text


def test_maintenance_begins_and_ends_with_a_reload(gateway: Gateway) -> None:
    path = gateway.folder / "policy.yaml"
    open_policy = path.read_text()
    path.write_text(
        open_policy.replace("    strip_prefix: /open\n", "    strip_prefix: /open\n    maintenance: Until six.\n")
    )
    gateway.ask("reload")
    closed = ask(gateway, "/open/a")
    assert (closed.status, closed.header("Retry-After"), closed.problem["detail"]) == (503, "60", "Until six.")
    assert gateway.record_of(closed.request_id)["reason"] == "maintenance"
    assert ask(gateway, "/status").status == 200
    path.write_text(open_policy)
    gateway.ask("reload")
    assert ask(gateway, "/open/a").status == 200
