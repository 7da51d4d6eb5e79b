"""What a route asks of an identity, as a small tree that is built once and evaluated for each request.

Law: a rule sees only `Facts`, from which everything that does not count for the request is already gone, so no rule
can forget about tenants. Evaluating leaves a step in the trace for every rule, and the step *is* the result: what
explains a decision and what made it are the same objects.
"""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from gateway.policy.reasons import Reason, Verdict

ALLOW, CHALLENGE, DENY = Verdict.ALLOW, Verdict.CHALLENGE, Verdict.DENY

CLOCK_SKEW_SECONDS = 5.0
"""A code may seem to come from the future by as much as the clocks of two nodes differ; more than that is a clock that
jumped back, and must not make an old code fresh."""


class Step(NamedTuple):
    """What one part of the decision came to. A named tuple, as some are made on the hot path."""

    rule: str
    """In words."""
    verdict: Verdict
    reason: Reason
    missing: str | None = None
    """The permission that was lacking."""
    until: float = inf
    """Unix seconds until which this result holds."""
    depth: int = 0


class Facts(NamedTuple):
    """What counts for this request, of an identity that is alive."""

    permissions: frozenset[str]
    otp_time: float | None
    is_service: bool
    now: float


class Rule(Protocol):
    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:
        """The result, which is also put into the trace, above the steps it was made of."""
        ...


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Any identity; `decide` has already asked for a grant where the request touches a tenant."""

    depth: int = 0
    step: Step = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Step("authenticated", ALLOW, Reason.GRANTED, depth=self.depth))

    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:  # noqa: ARG002 - rules share one signature.
        trace.append(self.step)
        return self.step


@dataclass(frozen=True, slots=True)
class Permission:
    name: str
    depth: int = 0
    held: Step = field(init=False)
    lacking: Step = field(init=False)

    def __post_init__(self) -> None:
        rule = f"permission {self.name}"
        object.__setattr__(self, "held", Step(rule, ALLOW, Reason.GRANTED, depth=self.depth))
        object.__setattr__(self, "lacking", Step(rule, DENY, Reason.PERMISSION, self.name, depth=self.depth))

    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:
        step = self.held if self.name in facts.permissions else self.lacking
        trace.append(step)
        return step


@dataclass(frozen=True, slots=True)
class FreshCode:
    """A one-time code (or a passkey) in the last `within` seconds. Services are refused, since they can't answer."""

    within: float
    words: str
    depth: int = 0

    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:
        verdict, reason, until = self._result(facts)
        step = Step(self.words, verdict, reason, None, until, self.depth)
        trace.append(step)
        return step

    def _result(self, facts: Facts) -> tuple[Verdict, Reason, float]:
        if facts.is_service:
            return DENY, Reason.NOT_FOR_SERVICES, inf
        if (
            facts.otp_time is None
            or not facts.otp_time - CLOCK_SKEW_SECONDS <= facts.now < facts.otp_time + self.within
        ):
            return CHALLENGE, Reason.FRESH_CODE, inf
        return ALLOW, Reason.GRANTED, facts.otp_time + self.within


@dataclass(frozen=True, slots=True)
class AllOf:
    """A refusal beats a challenge: whoever may not do it anyway is not asked for a code."""

    rules: tuple[Rule, ...]
    depth: int = 0

    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:
        place = len(trace)
        steps = [rule.evaluate(facts, trace) for rule in self.rules]
        decisive = _first(DENY, steps) or _first(CHALLENGE, steps) or steps[0]
        until = min(step.until for step in steps) if decisive.verdict is ALLOW else inf
        trace.insert(place, decisive._replace(rule="all of", until=until, depth=self.depth))
        return trace[place]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """An allow beats a challenge, and a challenge a refusal. Holds as long as the alternative that holds longest."""

    rules: tuple[Rule, ...]
    depth: int = 0

    def evaluate(self, facts: Facts, trace: list[Step]) -> Step:
        place = len(trace)
        steps = [rule.evaluate(facts, trace) for rule in self.rules]
        allowing = [step for step in steps if step.verdict is ALLOW]
        decisive = max(allowing, key=_until) if allowing else _first(CHALLENGE, steps) or _alternatives(steps)
        trace.insert(place, decisive._replace(rule="any of", depth=self.depth))
        return trace[place]


def _first(verdict: Verdict, steps: list[Step]) -> Step | None:
    return next((step for step in steps if step.verdict is verdict), None)


def _until(step: Step) -> float:
    return step.until


def _alternatives(refusals: list[Step]) -> Step:
    """Each of the missing permissions would have been enough."""
    missing = [step.missing for step in refusals if step.missing]
    return refusals[0]._replace(missing=" or ".join(missing) or None)
