"""The corpus of odd and hostile requests (`tests/corpus`), by way of the real listener, in three forms each.

What is asserted of every one: the answers' status; reason and detail in the record; that the connection ends after what
could not be read; and that the application gets exactly the request that was decided on, or nothing at all.
"""

import asyncio
from urllib.parse import urlsplit

import pytest

from gateway.policy.path import NormalPath, normalise

from .corpus import FOLDER, Case, Forwarded, Refused, cases
from .rig import TestGateway
from .wire import Client, Message, answer, request

FAMILIES = sorted(file.stem for file in FOLDER.glob("*.txt"))
OURS = ("Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id")
"""What the application gets from us, each once and under no second spelling. (`Via` and the assertion: not always.)"""
FRAMING = ("content-length", "transfer-encoding", "connection", "upgrade")
FIRST = request("/public/first")
PATIENCE = 5.0
"""Seconds; for a case that fails only."""

Outcome = tuple[list[Message], bool, list[Message]]


async def play(gateway: TestGateway, case: Case, form: str) -> Outcome:
    """The answers, whether the connection had ended then, and what the application saw."""
    gateway.application.seen.clear()
    client = await gateway.connect()
    try:
        if form == "behind another":
            client.sends(FIRST + case.wire)
            await client.gets()
        else:
            await client.sends_in_steps(case.wire, 1 + len(case.wire) // 1000 if form == "byte by byte" else None)
        if case.is_cut_short:
            client.half_closes()
        answers = [await _answer(client, outcome) for outcome in case.outcomes]
        is_closed = False
        if _is_unread(case.outcomes[-1]):
            client.half_closes()  # Until then the gateway reads on, so that the answer is not lost.
            is_closed = answers[-1].values("Connection") == ["close"] and await client.is_closed()
    finally:
        client.closes()
    seen = [message for message in gateway.application.seen if " /public/first " not in message.start]
    return answers, is_closed, seen


async def _answer(client: Client, outcome: Refused | Forwarded) -> Message:
    method = outcome.method
    while (got := await client.gets(method)).status == 100:
        pass
    return got


def _is_unread(outcome: Refused | Forwarded) -> bool:
    return isinstance(outcome, Refused) and outcome.reason in ("malformed", "body")


def shown(message: Message) -> str:
    """As `Forwarded.text`: without what is ours."""
    ours = {name.lower() for name in (*OURS, *FRAMING, "Via", "X-Gateway-Assertion")}
    lines = [line for line in message.lines if line.partition(b":")[0].decode("latin-1").lower() not in ours]
    start = message.start.removesuffix(" HTTP/1.1")
    return Forwarded(start, tuple(lines), message.body).text


@pytest.mark.advisory(
    "CVE-2026-33494", "CVE-2026-41059", "CVE-2026-48020", "CVE-2025-66490", "CVE-2025-47952", "CVE-2025-32431",
    "CVE-2026-52844", "CVE-2019-9901", "CVE-2021-29492", "CVE-2026-73553", "CVE-2022-23632", "CVE-2025-64484",
    "CVE-2026-88011", "CVE-2023-30845", "CVE-2025-43859",
)  # fmt: skip
@pytest.mark.parametrize("form", ["whole", "byte by byte", "behind another"])
@pytest.mark.parametrize("family", FAMILIES)
async def test_what_becomes_of_each(gateway: TestGateway, family: str, form: str) -> None:
    gateway.application.answers(lambda seen: answer(b"" if seen.start.startswith("HEAD ") else b"ok"))
    played: list[tuple[Case, Outcome]] = []
    wrong: list[str] = []
    for case in cases(family):
        try:
            async with asyncio.timeout(PATIENCE):
                played.append((case, await play(gateway, case, form)))
        except (TimeoutError, EOFError, OSError, AssertionError) as error:
            wrong.append(f"{case}: no whole answer ({error!r})")
    await gateway.until(lambda: not gateway.service.live.running)
    records: dict[str, dict[str, object]] = {}
    for each in await gateway.records():  # Of an exchange that was allowed there is a second one: how it went.
        records.setdefault(each["request_id"], {}).update(each)
    wrong += [text for case, outcome in played if (text := _difference(gateway, case, outcome, records))]
    assert not wrong, "\n".join(["", *wrong])


def _difference(gateway: TestGateway, case: Case, outcome: Outcome, records: dict[str, dict[str, object]]) -> str:
    """What is otherwise than the corpus has it; empty if nothing is."""
    answers, is_closed, seen = outcome
    became, left = [], iter(seen)
    for got in answers:
        if got.status != 200:
            record = records[got.value("X-Request-Id")]
            reason, detail = ("body", record["fault"]) if record["decision"] == "allow" else (record["reason"], "")
            became.append(Refused(got.status, str(reason), str(detail or record.get("detail") or "")).text)
            continue
        message = next(left, None)
        became.append(shown(message) if message else "200, and nothing at the application")
        if message is not None and (fault := _otherwise(gateway, message, records)):
            return f"{case}: {fault}"
    became += [f"unasked: {shown(message)}" for message in left]
    wanted = [expected.text for expected in case.outcomes]
    if became != wanted:
        return f"{case}\n    wanted {' ;; '.join(wanted)[:300]}\n    became {' ;; '.join(became)[:300]}"
    return f"{case}: left open" if _is_unread(case.outcomes[-1]) and not is_closed else ""


def _otherwise(gateway: TestGateway, seen: Message, records: dict[str, dict[str, object]]) -> str:
    """Whether the application got something else than what was decided on, or somebody else's word for ours."""
    if any(len(seen.alike(name)) != 1 for name in OURS):
        return f"not ours alone: {seen.lines}"
    if seen.value("X-Forwarded-For") != "127.0.0.1" or seen.value("X-Forwarded-Proto") != "https":
        return "believed what the client says of itself"
    record = records[seen.value("X-Request-Id")]
    method, target, _ = seen.start.split(" ")
    path = normalise(target.partition("?")[0].encode("latin-1"))
    assert isinstance(path, NormalPath)
    host = urlsplit(f"//{seen.value('Host')}").hostname or ""
    match = gateway.service.snapshot.policy.match(host.lower(), method, path)
    again = (method, host, match.route.id if match.route else None)
    decided = (record["method"], record["host"], record["route"])
    return "" if again == decided else f"decided on {decided}, forwarded {again}"
