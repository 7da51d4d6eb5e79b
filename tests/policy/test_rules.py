"""all_of, any_of and codes: who beats whom, and until when."""

from math import inf, nan
from typing import Any

import pytest

from gateway.policy.compile import compile_rule
from gateway.policy.reasons import Reason, Verdict
from gateway.policy.rules import CLOCK_SKEW_SECONDS, Facts, Step
from gateway.policy.schema import Allow

NOW = 1_000_000.0
A, B, C = ({"permission": name} for name in "abc")
CODE_5M, CODE_1H = {"otp_within": "5m"}, {"otp_within": "1h"}


def evaluate(allow: Any, held: str = "", otp_age: float | None = None, *, is_service: bool = False) -> Step:
    facts = Facts(frozenset(held), None if otp_age is None else NOW - otp_age, is_service, NOW)
    trace: list[Step] = []
    step = compile_rule(Allow.model_validate(allow)).evaluate(facts, trace)
    assert trace[0] is step, "the result is the step above all others"
    return step


ALLOW, ASK, NO = Verdict.ALLOW, Verdict.CHALLENGE, Verdict.DENY


@pytest.mark.parametrize(
    ("allow", "held", "otp_age", "verdict"),
    [
        ("authenticated", "", None, ALLOW),
        (A, "a", None, ALLOW),
        (A, "bc", None, NO),
        (CODE_5M, "", None, ASK),
        (CODE_5M, "", 299, ALLOW),
        (CODE_5M, "", 300, ASK),
        (CODE_5M, "", -CLOCK_SKEW_SECONDS, ALLOW),
        (CODE_5M, "", -CLOCK_SKEW_SECONDS - 1, ASK),  # a clock that jumped back
        (CODE_5M, "", inf, ASK),
        (CODE_5M, "", -inf, ASK),
        (CODE_5M, "", nan, ASK),
        # all_of: a refusal beats a challenge, wherever it stands.
        ({"all_of": [A, B]}, "ab", None, ALLOW),
        ({"all_of": [A, B]}, "a", None, NO),
        ({"all_of": [A, CODE_5M]}, "a", None, ASK),
        ({"all_of": [CODE_5M, A]}, "", None, NO),
        ({"all_of": [A, CODE_5M]}, "", 1, NO),
        ({**A, "otp_within": "5m"}, "", None, NO),
        ({**A, "otp_within": "5m"}, "a", None, ASK),
        ({**A, "otp_within": "5m"}, "a", 1, ALLOW),
        # any_of: an allow beats a challenge, and a challenge a refusal, wherever they stand.
        ({"any_of": [A, B]}, "b", None, ALLOW),
        ({"any_of": [A, B]}, "c", None, NO),
        ({"any_of": [CODE_5M, B]}, "b", None, ALLOW),
        ({"any_of": [B, CODE_5M]}, "", None, ASK),
        ({"any_of": [{**A, "otp_within": "5m"}, B]}, "ab", 600, ALLOW),
        ({"any_of": [{**A, "otp_within": "5m"}, B]}, "a", 600, ASK),
        ({"any_of": [{**A, "otp_within": "5m"}, B]}, "c", 600, NO),
        # One inside the other.
        ({"all_of": [{"any_of": [A, CODE_5M]}, B]}, "b", None, ASK),
        ({"all_of": [{"any_of": [A, CODE_5M]}, B]}, "a", None, NO),
        ({"any_of": [{"all_of": [A, B]}, {"all_of": [C]}]}, "c", None, ALLOW),
        ({"any_of": [{"all_of": [A, CODE_5M]}, {"all_of": [B, C]}], "otp_within": "1h"}, "bc", 3000, ALLOW),
    ],
)
@pytest.mark.requirement("ASVS 7.5.3")
def test_verdicts(allow: Any, held: str, otp_age: float | None, verdict: Verdict) -> None:
    assert evaluate(allow, held, otp_age).verdict is verdict


@pytest.mark.parametrize(
    ("allow", "held", "otp_age", "lasts"),
    [
        (A, "a", None, inf),
        (CODE_5M, "", 100, 200),
        ({"all_of": [CODE_5M, CODE_1H]}, "", 100, 200),
        ({"any_of": [CODE_5M, CODE_1H]}, "", 100, 3500),
        ({"any_of": [CODE_5M, A]}, "a", 100, inf),
        ({"any_of": [CODE_5M, A]}, "", 100, 200),
        ({**A, "otp_within": "5m"}, "a", 100, 200),
    ],
)
def test_until_when(allow: Any, held: str, otp_age: float | None, lasts: float) -> None:
    assert evaluate(allow, held, otp_age).until == NOW + lasts


@pytest.mark.parametrize(
    ("allow", "held", "reason", "missing"),
    [
        (A, "", Reason.PERMISSION, "a"),
        ({"all_of": [A, B, C]}, "a", Reason.PERMISSION, "b"),
        ({"any_of": [A, B]}, "c", Reason.PERMISSION, "a or b"),
        ({"any_of": [{"all_of": [A, B]}, C]}, "a", Reason.PERMISSION, "b or c"),
        (CODE_5M, "", Reason.FRESH_CODE, None),
    ],
)
def test_what_is_missing(allow: Any, held: str, reason: Reason, missing: str | None) -> None:
    step = evaluate(allow, held)
    assert (step.reason, step.missing) == (reason, missing)


@pytest.mark.parametrize("otp_age", [None, 1])
@pytest.mark.requirement("ASVS 6.1.3")
def test_a_service_is_refused_a_code_and_never_asked_for_one(otp_age: float | None) -> None:
    step = evaluate({**A, "otp_within": "5m"}, "a", otp_age, is_service=True)
    assert (step.verdict, step.reason) == (NO, Reason.NOT_FOR_SERVICES)
    assert evaluate({"any_of": [CODE_5M, A]}, "a", is_service=True).verdict is ALLOW
    assert evaluate({"any_of": [CODE_5M, A]}, "", is_service=True).verdict is NO


def test_the_trace_is_a_tree_from_the_top() -> None:
    facts = Facts(frozenset("b"), None, False, NOW)
    trace: list[Step] = []
    allow = Allow.model_validate({"any_of": [{**A, "otp_within": "5m"}, B]})
    compile_rule(allow).evaluate(facts, trace)
    assert [(step.depth, step.rule, step.verdict) for step in trace] == [
        (0, "any of", ALLOW),
        (1, "all of", NO),
        (2, "permission a", NO),
        (2, "a one-time code in the last 5m", ASK),
        (1, "permission b", ALLOW),
    ]
