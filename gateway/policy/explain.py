"""A decision in words. It is given a decision and renders its trace: it can't come to another result, since it comes
to none."""

from dataclasses import dataclass

from gateway.foundation.clock import isoformat
from gateway.policy.decide import Decision, Question
from gateway.policy.reasons import PUBLISHED, Verdict
from gateway.policy.rules import Step

_MARK = {Verdict.ALLOW: "+", Verdict.CHALLENGE: "?", Verdict.DENY: "-"}

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Explanation:
    text: str
    as_json: Json


def explain(question: Question, decision: Decision) -> Explanation:
    return Explanation("\n".join(_lines(question, decision)), _json(question, decision))


def _lines(question: Question, decision: Decision) -> list[str]:
    match = question.match
    lines = [f"{decision.verdict} ({decision.reason}): {PUBLISHED[decision.reason]}"]
    lines += [f"  {'  ' * step.depth}{_MARK[step.verdict]} {_words(step)}" for step in decision.trace]
    facts = (
        ("application", match.application.name if match.application is not None else None),
        ("route", match.route.id if match.route is not None else None),
        ("tenant", match.tenant),
        ("grants", ", ".join(_grants(question))),
        ("permissions", ", ".join(decision.permissions)),
        ("missing", decision.missing),
        ("holds until", _time(decision.until)),
        *(match.route.terms.facts(match.route.pattern.text) if match.route is not None else ()),
    )
    return lines + [f"  {name}: {value}" for name, value in facts if value]


def _words(step: Step) -> str:
    if step.verdict is Verdict.ALLOW:
        return step.rule
    return f"{step.rule}: {step.reason}" + (f" (missing {step.missing})" if step.missing else "")


def _json(question: Question, decision: Decision) -> Json:
    match = question.match
    return {
        "decision": decision.verdict.value,
        "reason": decision.reason.value,
        "meaning": PUBLISHED[decision.reason],
        "application": match.application.name if match.application is not None else None,
        "route": match.route.id if match.route is not None else None,
        "tenant": match.tenant,
        "user": question.principal.name or None,
        "grants": _grants(question),
        "permissions": list(decision.permissions),
        "missing": decision.missing,
        "until": _time(decision.until),
        "terms": dict(match.route.terms.facts(match.route.pattern.text)) if match.route is not None else {},
        "trace": [
            {"rule": step.rule, "depth": step.depth, "decision": step.verdict.value, "reason": step.reason.value}
            for step in decision.trace
        ],
    }


def _grants(question: Question) -> list[str]:
    return sorted(str(grant) for grant in question.principal.grants)


def _time(until: float | None) -> str | None:
    """None also for a time that no calendar has: as good as never."""
    try:
        return None if until is None else isoformat(until)
    except (ValueError, OverflowError, OSError):
        return None
