"""Clients that ask all the time, and what they saw while a fault came and went."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from .disks import PoweredDisk
from .fault_causes import CAUSES, command
from .fault_table import Fault
from .running import Gateway, until
from .wire import Line

HOST = "orders.btb.localhost"
SLACK_SECONDS = 2.5
"""What a busy machine may add to a deadline."""
HEALED_SECONDS = 45.0
"""Far more than it takes, so that a busy machine is not taken for a gateway that stays ill."""
PAUSE_SECONDS = 0.02
QUIET_SECONDS = 2.0
Who = Literal["anybody", "signed-in", "revoked"]
CLIENTS: tuple[Who, ...] = ("anybody", "anybody", "anybody", "anybody", "signed-in", "signed-in", "revoked")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as its client saw it."""

    who: Who
    target: str
    began: float
    took: float
    status: int
    """0: the connection broke; -1: nothing came."""
    reason: str = ""
    retry_after: str = ""


@dataclass
class Observation:
    fault: Fault
    mark: str
    seen: list[Seen] = field(default_factory=list)
    wall: float = field(default_factory=time.time)
    began: float = 0.0
    """When the fault was there for certain; times are monotonic but for `wall`."""
    ended: float = 0.0
    healed: float = 0.0
    revoked: float | None = None
    supervisors: tuple[int, int] = (0, 0)
    """Process id of the supervisor before and after."""
    log: str = ""
    metrics: tuple[dict[str, float], dict[str, float]] = field(default_factory=lambda: ({}, {}))
    quiet: tuple[float, float] = (0.0, 0.0)
    """From when until when nothing was wrong, with clients at work."""


class Clients:
    def __init__(self, gateway: Gateway, observation: Observation, tokens: dict[Who, str]) -> None:
        self._gateway, self._to, self._tokens = gateway, observation, tokens
        self._numbers, self._stopping = count(1), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(who,), daemon=True) for who in CLIENTS]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def until_served(self, *who: Who) -> float:
        """Everybody of them has got through with a request that began from now on; when that was."""
        since = time.monotonic()

        def are_served() -> bool:
            fresh = [seen for seen in self._to.seen[-2000:] if seen.began >= since and seen.status == 200]
            return {seen.who for seen in fresh} >= set(who)

        until(are_served, HEALED_SECONDS, f"{self._to.mark} to be served")
        return time.monotonic()

    def _run(self, who: Who) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with self._gateway.line(HOST) as line:
                    line.socket.settimeout(self._to.fault.answer_seconds + SLACK_SECONDS + 10)
                    self._ask(line, who, began)
            except OSError as error:
                status = -1 if isinstance(error, TimeoutError) else 0
                self._note(Seen(who, "", began, time.monotonic() - began, status))
                self._stopping.wait(PAUSE_SECONDS)

    def _ask(self, line: Line, who: Who, began: float) -> None:
        headers = [("Host", HOST)]
        if who != "anybody":
            headers.append(("Authorization", f"Bearer {self._tokens[who]}"))
        while not self._stopping.is_set():
            place = "/open" if who == "anybody" else "/t/acme/orders"
            target = f"{place}/{self._to.mark}/{next(self._numbers)}"
            try:
                answer = line.ask("GET", target, headers)
            except TimeoutError:
                self._note(Seen(who, target, began, time.monotonic() - began, -1))
                return
            except (OSError, IndexError):
                self._note(Seen(who, target, began, time.monotonic() - began, 0))
                return
            reason = str(answer.problem["reason"]) if answer.status == 503 else ""
            took = time.monotonic() - began
            self._note(Seen(who, target, began, took, answer.status, reason, answer.header("Retry-After")))
            if answer.header("Connection").lower() == "close":
                return
            self._stopping.wait(PAUSE_SECONDS)
            began = time.monotonic()

    def _note(self, seen: Seen) -> None:
        self._to.seen.append(seen)


@contextmanager
def clients(gateway: Gateway, observation: Observation, tokens: dict[Who, str]) -> Iterator[Clients]:
    asking = Clients(gateway, observation, tokens)
    try:
        yield asking
    finally:
        asking.stop()


def create_token(gateway: Gateway, name: str, grant: str) -> str:
    arguments = {"name": name, "applications": [], "grants": [grant], "expires_seconds": 86400}
    made: dict[str, Any] = {}

    def is_made() -> bool:
        made.update(command(gateway, "token.create", **arguments))
        return bool(made.get("ok"))

    until(is_made, HEALED_SECONDS, f"a token: {made}")
    return str(made["result"]["token"])


def revoke(gateway: Gateway, name: str) -> float:
    """When it was answered that it is done."""
    told = command(gateway, "token.revoke", token=name)
    assert told.get("ok") or "was done" in told.get("error", ""), told
    return time.monotonic()


def observe(
    gateway: Gateway, disk: PoweredDisk, fault: Fault, number: int, chance: random.Random, monitor: str, token: str
) -> Observation:
    """One fault, from a gateway that serves to a gateway that serves."""
    mark = f"{fault.name}-{number}"
    seen = Observation(fault, mark)
    log_from, supervisor = len(gateway.log), gateway.pid
    tokens: dict[Who, str] = {"signed-in": token, "revoked": create_token(gateway, mark, "support@acme")}
    with clients(gateway, seen, tokens) as asking:
        since = asking.until_served(*CLIENTS)
        if "n/a" not in fault.cells["paced"]:
            time.sleep(QUIET_SECONDS)
            seen.quiet = (since, time.monotonic())
        before = gateway.metrics(monitor)
        time.sleep(chance.uniform(0, 0.3))
        if fault.revokes == "before":
            seen.revoked = revoke(gateway, mark)
        with CAUSES[fault.name](gateway, disk):
            seen.began = time.monotonic()
            if fault.revokes == "during":
                time.sleep(chance.uniform(0, 0.5))
                seen.revoked = revoke(gateway, mark)
            time.sleep(max(0.0, seen.began + fault.seconds - time.monotonic()))
        seen.ended = time.monotonic()
        until(lambda: gateway.is_ready, HEALED_SECONDS, f"{mark} to be ready again")
        seen.healed = asking.until_served("anybody", "signed-in")
        # What workers counted arrives each second; counters that went on are what a scrape would see.
        known = before.get(fault.series, 0.0)
        until(lambda: not fault.series or grown(gateway, monitor, fault.series, known), 20, f"{fault.series} to grow")
        seen.metrics = (before, gateway.metrics(monitor))
    seen.supervisors = (supervisor, gateway.pid)
    seen.log = gateway.log[log_from:]
    return seen


def grown(gateway: Gateway, monitor: str, series: str, known: float) -> bool:
    try:
        return gateway.metrics(monitor).get(series, 0.0) > known
    except (AssertionError, OSError):
        return False
