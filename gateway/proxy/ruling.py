"""What one request comes to for one identity: the decision, and whatever follows from it and is the same next time.

Law: a ruling is a memory of `decide`, never a second way to an answer. It serves only the very question that it was
made for: the same snapshot, request and `Principal` objects on the same connection, at a time at which the decision
still holds by its own word. Who asks has been looked up afresh before. Only an allow is kept.
"""

from math import inf
from typing import TYPE_CHECKING

from gateway.foundation.principal import Principal
from gateway.policy.decide import Decision, Question, decide
from gateway.policy.match import Match
from gateway.policy.reasons import Verdict

if TYPE_CHECKING:
    from gateway.proxy.service import Counters, Snapshot


class Ruling:
    """Bytes that are worked out later, when they are first needed, are empty until then."""

    __slots__ = (
        "counters",
        "decision",
        "head",
        "is_allow",
        "made_at",
        "question",
        "record",
        "renew_at",
        "snapshot",
        "until",
    )

    def __init__(self, snapshot: "Snapshot", question: Question) -> None:
        self.snapshot, self.question = snapshot, question
        self.decision: Decision = decide(snapshot.policy, question)
        self.is_allow = self.decision.verdict is Verdict.ALLOW
        self.made_at = question.now
        self.until = inf if self.decision.until is None else self.decision.until
        self.record = b""
        """What the records of all these decisions share (`events.ruling`)."""
        self.head = b""
        """The request that is forwarded, but for its id and its last empty line."""
        self.renew_at = 0.0
        """Unix seconds at which the assertion in `head` is too old."""
        self.counters: dict[int, Counters] = {}
        """By the status that was answered."""

    def __repr__(self) -> str:
        return f"<Ruling {self.decision.verdict} {self.decision.reason}>"

    def answers(
        self, snapshot: "Snapshot", match: Match, principal: Principal, now: float, is_tenant_known: bool
    ) -> bool:
        """Whether it is the answer to this question too. `match`: as `HeadMemory` gives it, one object for one request
        as long as that is the connection's last."""
        asked = self.question
        return (
            asked.match is match
            and asked.principal is principal
            and self.snapshot is snapshot
            and asked.is_tenant_known is is_tenant_known
            and self.made_at <= now < self.until
        )
