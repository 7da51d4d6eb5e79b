import json
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

import pytest

SETTINGS = """\
domain: btb.localhost
state_dir: state
master_key: {file: ../key}
tls: {local_ca: true}
"""
POLICY = """\
permissions: [order_details]
roles:
  support: {permissions: [order_details]}
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


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A settings file that is good, and its policy beside it."""
    monkeypatch.delenv("BTB_GATEWAY_CONFIG", raising=False)
    path = tmp_path / "gateway.yaml"
    path.write_text(SETTINGS)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return path


class Keeper(UnixStreamServer):
    """Answers every command with what the test put into `answer`, and remembers what it was asked."""

    def __init__(self, path):
        self.asked = []
        self.answer = {"ok": True, "result": {}}
        super().__init__(str(path), Handler)

    @property
    def commands(self):
        return [command for _, _, command in self.asked]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        command = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Content-Type"], command))
        answer = self.server.answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "keeper"

    def log_message(self, *_):
        pass


@pytest.fixture
def keeper(config):
    """A keeper that listens where the settings say."""
    folder = config.parent / "state" / "run"
    folder.mkdir(parents=True)
    with Keeper(folder / "keeper.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
