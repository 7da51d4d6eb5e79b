"""What one request comes to for one identity: the decision, and whatever follows from it and is the same next time.

Law: a ruling is a memory of `decide`, never a second way to an answer. It serves only the very question that it was
made for: the same snapshot, request and `Principal` objects on the same connection, at a time at which the decision
still holds by its own word. Who asks has been looked up afresh before. Only an allow is kept.
"""

from math import inf
from typing import TYPE_CHECKING

from gateway.foundation.principal import Principal
from gateway.policy.decide import Decision, Question, decide
from gateway.policy.reasons import Verdict
from gateway.policy.terms import USUAL, Terms
from gateway.proxy.hygiene import Request
from gateway.proxy.rates import Place

if TYPE_CHECKING:
    from gateway.proxy.service import Counters, Snapshot

SIGN_OUT = b"/.gateway/sign-out"


class Ruling:
    """Bytes that are worked out later, when they are first needed, are empty until then."""

    __slots__ = (
        "counters",
        "decision",
        "head",
        "head_since",
        "head_until",
        "is_allow",
        "is_tenant_known",
        "limits",
        "made_at",
        "match",
        "partition",
        "places",
        "principal",
        "record",
        "request",
        "snapshot",
        "terms",
        "until",
    )

    def __init__(self, snapshot: "Snapshot", request: Request, question: Question) -> None:
        self.snapshot, self.request = snapshot, request
        # One by one, since these are compared on each request, and the interpreter reads slots faster than tuples.
        self.match, self.principal, self.made_at, _, self.is_tenant_known = question
        self.decision: Decision = decide(snapshot.policy, question)
        self.is_allow = self.decision.verdict is Verdict.ALLOW
        self.until = inf if self.decision.until is None else self.decision.until
        self.partition = self.match.partition
        """Whose connections to the application it may use."""
        self.terms: Terms = USUAL if self.match.route is None else self.match.route.terms
        """How it is carried to the application."""
        self.limits = self.match.route.limits if self.match.route is not None else ()
        self.places: list[Place] | None = None
        """Where it is counted for them."""
        self.record = b""
        """What the records of all these decisions share (`events.ruling`)."""
        self.head = b""
        """The request that is forwarded, but for its id and its last empty line: it follows from snapshot and request,
        and from who asks. One that depends on the upstream as well is not kept."""
        self.head_since = self.head_until = 0.0
        """Unix seconds between which the assertion in `head` may be handed out."""
        self.counters: dict[int, Counters] = {}
        """By the status that was answered."""

    def __repr__(self) -> str:
        return f"<Ruling {self.decision.verdict} {self.decision.reason}>"

    @property
    def reduces_authority(self) -> bool:
        """Whether it is the end of somebody's session, or the page that asks for it, for which there is room on a full
        disk. Not a stranger's or a token's, which have none."""
        application = self.match.application
        is_own = application is not None and application.is_own
        return is_own and self.principal.session != "" and self.request.path.raw == SIGN_OUT

    def answers(
        self,
        snapshot: "Snapshot",
        request: Request,
        principal: Principal,
        now: float,
        is_tenant_known: bool,
    ) -> bool:
        """Whether it is the answer to this question too, and its bytes are good for this request. The match is not
        compared: it follows from snapshot and request."""
        return (
            self.request is request
            and self.principal is principal
            and self.snapshot is snapshot
            and self.is_tenant_known is is_tenant_known
            and self.made_at <= now < self.until
        )
