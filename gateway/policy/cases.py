"""The policy's own tests: sentences of the file, asked of the same `decide` as every request."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.foundation.errors import Problem
from gateway.foundation.principal import ANONYMOUS, Credential, Principal
from gateway.policy import schema
from gateway.policy.decide import Decision, Question, decide
from gateway.policy.explain import explain
from gateway.policy.match import Match, Policy
from gateway.policy.path import PathRefusal, normalise
from gateway.policy.values import RequestLine

DEFAULT_INSTANT = 1_800_000_000.0
"""`at` where a test does not say it: Friday, 2027-01-15 08:00 UTC. Fixed, so that a policy that is good today is good
tonight; a test of hours says when."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that did not come true."""

    case: str
    request: str
    expected: str
    got: str
    problem: Problem
    """The same, with its place in the file."""


def run_cases(policy: Policy, cases: Sequence[schema.Case]) -> list[Failure]:
    """Every tenant that a test names counts as declared: which ones are, is not the policy's business."""
    return [
        failure
        for index, case in enumerate(cases)
        for number, expectation in enumerate(case.expect)
        if (failure := _failure(policy, case, expectation, f"tests[{index}].expect[{number}]")) is not None
    ]


def question_for(policy: Policy, identity: schema.Identity, request: RequestLine) -> Question:
    """What `identity` asks with `request`; also for `policy explain`."""
    now = DEFAULT_INSTANT if identity.at is None else identity.at
    return Question(match_for(policy, request), principal_for(identity, now), now, identity.address, True)


def match_for(policy: Policy, request: RequestLine) -> Match:
    path = normalise(request.path)
    if isinstance(path, PathRefusal):
        return Match(refused=path.reason)
    return policy.match(request.host, request.method, path)


def principal_for(identity: schema.Identity, now: float) -> Principal:
    if identity.credential == "none":
        return ANONYMOUS
    return Principal(
        id="somebody",
        name="somebody",
        home="-",
        grants=frozenset(identity.grants),
        credential=Credential(identity.credential, "policy-test"),
        auth_time=now,
        otp_time=None if identity.otp_age is None else now - identity.otp_age,
        applications=None if identity.applications is None else frozenset(identity.applications),
    )


def _failure(policy: Policy, case: schema.Case, expectation: schema.Expectation, place: str) -> Failure | None:
    question = question_for(policy, case.identity, expectation.request)
    decision = decide(policy, question)
    if decision.verdict is expectation.verdict and expectation.because in (None, decision.reason):
        return None
    expected, got = _expected(expectation), _got(decision)
    message = f"{case.name!r}: {expectation.request.text} should be {expected}, and is {got}"
    problem = Problem(message, place, explain(question, decision).text)
    return Failure(case.name, expectation.request.text, expected, got, problem)


def _expected(expectation: schema.Expectation) -> str:
    return expectation.verdict + (f" because of {expectation.because}" if expectation.because is not None else "")


def _got(decision: Decision) -> str:
    return f"{decision.verdict} because of {decision.reason}"
