"""Three upstreams, one of which is killed and started again while requests run."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from .running import POLICY, Gateway, running, until
from .upstream import Upstream

pytestmark = pytest.mark.system
HOST = "orders.btb.localhost"
CLIENTS = 3
SERVE = """
import asyncio, sys
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n" + sys.argv[2].encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Process:
    """An application that answers its number, in a process of its own."""

    def __init__(self, number: int) -> None:
        self.number, self.port = number, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self.port), str(self.number)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    found = [Process(number) for number in range(3)]
    yield found
    for each in found:
        each.kill()


@pytest.fixture(scope="module")
def gateway(
    upstream: Upstream, processes: list[Process], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One worker, so that after the first requests each upstream has a connection that was used before."""
    urls = ", ".join(f'"http://127.0.0.1:{each.port}"' for each in processes)
    policy = POLICY.replace('["UPSTREAM"]', f"[{urls}]\n    health: {{path: /healthz, every: 1s, timeout: 1s}}", 1)
    # Nobody has signed in here, and all of them ask without a pause.
    more = "limits: {strangers: 1000000}\n"
    with running(
        Gateway(tmp_path_factory.mktemp("upstreams"), upstream, workers=1, policy=policy, more=more)
    ) as gateway:
        yield gateway


class Asking:
    """Clients that ask one after another, without a pause."""

    def __init__(self, gateway: Gateway) -> None:
        self.answers: list[str] = []
        self._gateway, self._is_over = gateway, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def since(self, count: int) -> set[str]:
        return set(self.answers[count:])

    def _ask(self) -> None:
        with self._gateway.line(HOST) as line:
            while not self._is_over.is_set():
                answer = line.ask("GET", "/status", [("Host", HOST)])
                self.answers.append(answer.text if answer.status == 200 else f"status {answer.status}")


def test_one_that_is_killed_and_comes_back_costs_no_safe_request(gateway: Gateway, processes: list[Process]) -> None:
    token, victim = gateway.add_token("prometheus", "monitor@-"), processes[1]
    series = f'gateway_upstream_up{{application="orders",upstream="http://127.0.0.1:{victim.port}"}}'

    def is_up() -> float | None:
        return gateway.metrics(token).get(series)

    with Asking(gateway) as asking:
        until(lambda: len(asking.answers) > 100 and asking.since(0) == {"0", "1", "2"})
        until(lambda: is_up() == 1)
        victim.kill()
        until(lambda: is_up() == 0)
        count = len(asking.answers)
        until(lambda: len(asking.answers) > count + 50)
        assert asking.since(count) == {"0", "2"}
        victim.start()
        until(lambda: is_up() == 1)
        until(lambda: "1" in asking.since(count))
    assert asking.since(0) == {"0", "1", "2"}
    assert not any(name.startswith("gateway_upstream_faults_total") for name in gateway.metrics(token))
