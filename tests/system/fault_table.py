"""The table: what each fault does to each promise. Data alone: the tests run it, and `docs/faults.md` is made of it.

A cell that begins with `n/a` says why the promise says nothing about this fault; every other one is a test, named
`test_promise[fault-promise]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

PROMISES: Mapping[str, str] = MappingProxyType(
    {
        "recorded": "Whatever reached the application has its decision on disk; what was refused never reached it",
        "answered": "Every request is answered within its deadline: what it asked for, or 503 with `Retry-After`",
        "heals": "Once the fault is over, it serves again by itself",
        "verified": "`audit verify` finds no break",
        "revoked": "What was revoked is refused a second later",
        "visible": "Somebody can see it",
        "paced": "A slow disk costs what group commit says",
    }
)

RECORDED = "held"
VERIFIED = "clean"
WITHIN = "held"
ONLY_SLOW = "n/a: nothing is slow, it is there or not"
NO_COMMANDS = "n/a: a command that is given just then is not answered with success; it is given again"


@dataclass(frozen=True)
class Fault:
    name: str
    what: str
    house: str
    """Those of one house happen to the same gateway, one after the other."""
    cells: Mapping[str, str]
    anybody: frozenset[int] = frozenset({200})
    """What a request to a public route may be answered while it lasts. 0: its connection broke."""
    signed_in: frozenset[int] = frozenset({200})
    felt: frozenset[int] = frozenset()
    """What somebody must have been answered: otherwise there was no fault."""
    answer_seconds: float = 1.0
    """The deadline, as documented; the test adds what a busy machine takes."""
    seconds: float = 2.5
    """How long it is left alone, unless it ends by itself."""
    revokes: Literal["", "before", "during"] = "during"
    """When something is revoked, if it can be."""
    blind_seconds: float | None = None
    """So long after it began nobody with a credential may get through any more (the bound of the live copy)."""
    shut_seconds: float | None = None
    """So long after it began nobody at all may get through any more."""
    log: str = ""
    event: str = ""
    series: str = ""
    """A counter that grows, or one of the metrics that an alert is about."""


def cells(
    *,
    answered: str,
    heals: str = "within seconds",
    revoked: str = WITHIN,
    visible: str,
    paced: str = ONLY_SLOW,
    recorded: str = RECORDED,
    verified: str = VERIFIED,
) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "recorded": recorded,
            "answered": answered,
            "heals": heals,
            "verified": verified,
            "revoked": revoked,
            "visible": visible,
            "paced": paced,
        }
    )


REFUSED = frozenset({200, 503})
BROKEN = frozenset({0, 200, 503})
JOURNAL_503 = 'gateway_decisions_total{reason="journal"}'
STORE_503 = 'gateway_decisions_total{reason="store"}'
KEEPER_REPLACED = 'gateway_processes_replaced_total{process="keeper"}'
WORKER_REPLACED = 'gateway_processes_replaced_total{process="worker"}'

FAULTS: tuple[Fault, ...] = (
    # The journal. A disk that fills comes first: a young worker has little room set aside.
    Fault(
        "disk-full",
        "The disk is full, and has room again",
        "journal",
        cells(
            answered="503 (`journal`), at once",
            revoked=NO_COMMANDS,
            visible="log; `journal:healed`; `GatewayJournalUnwritable`",
        ),
        revokes="",
        anybody=REFUSED,
        signed_in=REFUSED,
        felt=frozenset({503}),
        log="the journal can't be written",
        event="journal:healed",
        series=JOURNAL_503,
    ),
    Fault(
        "sync-fails",
        "A sync of the journal reports an error",
        "journal",
        cells(
            answered="the worker ends, since nobody knows what is on the disk: connections break, new ones wait",
            heals="the worker is replaced within seconds",
            visible="log; `process:replaced`; `GatewayProcessReplaced`",
        ),
        anybody=BROKEN,
        signed_in=BROKEN,
        felt=frozenset({0}),
        answer_seconds=20.0,
        log="the journal could not be synced",
        event="process:replaced",
        series=WORKER_REPLACED,
    ),
    Fault(
        "sync-hangs",
        "A sync of the journal hangs for 5 seconds",
        "journal",
        cells(
            answered="503 (`journal`) after a second, then at once",
            visible="log; `journal:healed`; `GatewayJournalUnwritable`",
        ),
        anybody=REFUSED,
        signed_in=REFUSED,
        felt=frozenset({503}),
        seconds=6.0,
        log="the disk under the journal does not answer",
        event="journal:healed",
        series=JOURNAL_503,
    ),
    Fault(
        "sync-slow",
        "Every sync of the journal takes 3 ms longer",
        "journal",
        cells(
            answered="as ever, later",
            visible="`gateway_audit_commit_seconds`; `GatewayJournalSlow` from 100 ms on",
            paced="a request waits for two commits on the average, and no more than three times its own cost besides",
        ),
        series="gateway_audit_commit_seconds_count",
    ),
    Fault(
        "journal-moved",
        "The journal's folder is moved away, and back",
        "journal",
        cells(
            answered="503 (`journal`), at the latest for what begins 100 ms after the move",
            visible="log; `journal:healed`; `GatewayJournalUnwritable`",
        ),
        anybody=REFUSED,
        signed_in=REFUSED,
        felt=frozenset({503}),
        shut_seconds=0.1,
        log="was moved away or removed",
        event="journal:healed",
        series=JOURNAL_503,
    ),
    Fault(
        "journal-read-only",
        "The journal's files are made read-only",
        "journal",
        cells(
            answered="503 (`journal`), at once",
            visible="log; `journal:healed`; `GatewayJournalUnwritable`",
        ),
        anybody=REFUSED,
        signed_in=REFUSED,
        felt=frozenset({503}),
        shut_seconds=0.0,
        log="the journal can't be written",
        event="journal:healed",
        series=JOURNAL_503,
    ),
    Fault(
        "disk-hangs",
        "The disk under everything answers no write",
        "journal",
        cells(
            answered="503 (`journal`) after a second, then at once",
            revoked="n/a: no command returns, so nothing counts as revoked; nobody gets through meanwhile",
            visible="log; `journal:healed`; `GatewayJournalUnwritable`",
        ),
        revokes="",
        anybody=REFUSED,
        signed_in=REFUSED,
        felt=frozenset({503}),
        seconds=4.0,
        shut_seconds=0.0,
        log="the disk under the journal does not answer",
        event="journal:healed",
        series=JOURNAL_503,
    ),
    Fault(
        "power-cut",
        "The power fails: what was not synced is gone",
        "journal",
        cells(
            answered="n/a: nobody is there",
            heals="n/a: the machine is started by hand, and the gateway with it",
            revoked="what a command has answered holds after the start",
            visible="n/a: the machine is down. A torn end is recorded at the start (`journal:torn-line`)",
        ),
        revokes="before",
        anybody=BROKEN,
        signed_in=BROKEN,
        felt=frozenset({0}),
    ),
    # The keeper, and processes that live and do not work.
    Fault(
        "keeper-sync-fails",
        "A sync of the keeper reports an error",
        "processes",
        cells(
            answered="as ever",
            heals="the keeper is replaced within seconds",
            revoked=NO_COMMANDS,
            visible="log; `process:replaced`; `GatewayProcessReplaced`",
        ),
        revokes="",
        log="could not be synced",
        event="process:replaced",
        series=KEEPER_REPLACED,
    ),
    Fault(
        "keeper-hangs",
        "No sync of the keeper returns",
        "processes",
        cells(
            answered="as ever",
            heals="replaced after 15 s without progress",
            revoked=NO_COMMANDS,
            visible="log; `process:replaced`; `GatewayProcessReplaced`",
        ),
        revokes="",
        log="no progress for",
        event="process:replaced",
        series=KEEPER_REPLACED,
    ),
    Fault(
        "keeper-stopped",
        "Keeper and portal are stopped (`SIGSTOP`)",
        "processes",
        cells(
            answered="as ever; sign-in pages wait",
            heals="replaced after 10 s of silence",
            revoked=NO_COMMANDS,
            visible="log; `process:replaced`; `GatewayProcessReplaced`",
        ),
        revokes="",
        log="silent for 10 s",
        event="process:replaced",
        series=KEEPER_REPLACED,
    ),
    Fault(
        "worker-stopped",
        "A worker is stopped (`SIGSTOP`)",
        "processes",
        cells(
            answered="its clients wait until it is replaced, then their connections break; other workers go on",
            heals="replaced after 10 s of silence",
            visible="log; `process:replaced`; `GatewayProcessReplaced`",
        ),
        anybody=BROKEN,
        signed_in=BROKEN,
        felt=frozenset({0}),
        answer_seconds=20.0,
        log="silent for 10 s",
        event="process:replaced",
        series=WORKER_REPLACED,
    ),
    # The store.
    Fault(
        "store-locked",
        "Another process holds the store's lock",
        "store",
        cells(
            answered="as ever; sign-ins and commands are refused after their deadline",
            revoked=NO_COMMANDS,
            visible="n/a: only who wants to write the store notices, and is told",
        ),
        revokes="",
    ),
    Fault(
        "store-gone",
        "The store's file is moved away, and back",
        "store",
        cells(
            answered="503 (`store`) to whoever has a credential; public routes go on",
            revoked="nobody with a credential gets through a second after the move",
            visible="log; `GatewayStoreUnavailable`",
        ),
        revokes="",
        signed_in=REFUSED,
        felt=frozenset({503}),
        blind_seconds=1.0,
        log="what is known of sessions can't be confirmed",
        series=STORE_503,
    ),
    Fault(
        "store-replaced",
        "An older copy takes the store's place, and the store comes back",
        "store",
        cells(
            answered="503 (`store`) to whoever has a credential; public routes go on",
            revoked="nobody with a credential gets through a second after the exchange",
            visible="log; `GatewayStoreUnavailable`",
        ),
        revokes="",
        signed_in=REFUSED,
        felt=frozenset({503}),
        blind_seconds=1.0,
        log="what is known of sessions can't be confirmed",
        series=STORE_503,
    ),
    Fault(
        "store-hangs",
        "The store does not answer a worker",
        "store",
        cells(
            answered="503 (`store`) to whoever has a credential, within half a second; public routes go on",
            visible="log; `GatewayStoreUnavailable`",
        ),
        signed_in=REFUSED,
        felt=frozenset({503}),
        blind_seconds=1.0,
        log="what is known of sessions can't be confirmed",
        series=STORE_503,
    ),
    Fault(
        "notice-missed",
        "Somebody deletes the notices of changes before a worker reads them",
        "store",
        cells(
            answered="as ever",
            visible="n/a: the worker finds that its sum is another, and loads everything anew",
        ),
    ),
    Fault(
        "fill-race",
        "Something is revoked while a worker, slowly, loads everything anew",
        "store",
        cells(
            answered="503 (`store`) to whoever has a credential until it is loaded; public routes go on",
            visible="log; `GatewayStoreUnavailable`",
        ),
        signed_in=REFUSED,
        felt=frozenset({503}),
        seconds=4.0,
        log="what is known of sessions can't be confirmed",
        series=STORE_503,
    ),
)
HOUSES = tuple(dict.fromkeys(fault.house for fault in FAULTS))


def applies(fault: Fault, promise: str) -> bool:
    return not fault.cells[promise].startswith("n/a")
