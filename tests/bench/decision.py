"""How a decision grows with the number of routes: on `gateway.policy` alone, in this process."""

import timeit
from collections.abc import Callable
from itertools import cycle
from statistics import median

from gateway.foundation.principal import Credential, Grant, Principal
from gateway.policy.compile import compile_policy
from gateway.policy.decide import Question, decide
from gateway.policy.path import NormalPath, normalise
from gateway.policy.reasons import Verdict
from gateway.policy.schema import PolicyFile
from tests.bench.running import CannotMeasure

FEW, MANY = 10, 100_000
_HOST = "orders.btb.localhost"
_TIMES = 2000


def ratio(many: int = MANY, turns: int = 21) -> float:
    """Of the time that a decision takes with many routes, to that with few: the median of turns. Another route is asked
    for each time, so that what many take of the processor's caches counts too."""
    few_routes, many_routes = _decision(FEW, many), _decision(many, many)
    took = [(timeit.timeit(many_routes, number=_TIMES), timeit.timeit(few_routes, number=_TIMES)) for _ in range(turns)]
    return median(long / short for long, short in took)


def _decision(routes: int, paths: int) -> Callable[[], Verdict]:
    """Asked for so many paths in turn, each an object of its own, so that both ask for what is as far away."""
    policy = compile_policy(_policy(routes))
    credential = Credential("session", "ses_1")
    ada = Principal("usr_ada", "ada", "acme", frozenset({Grant("support", "acme")}), credential)
    normal = (normalise(f"/t/acme/area-{number % routes}/orders/7".encode()) for number in range(paths))
    targets = cycle([path for path in normal if isinstance(path, NormalPath)])

    def asked() -> Verdict:
        match = policy.match(_HOST, "GET", next(targets))
        return decide(policy, Question(match, ada, 0.0, None, is_tenant_known=True)).verdict

    if asked() is not Verdict.ALLOW:
        raise CannotMeasure("the decision that is measured is not the one that is meant")
    return asked


def _policy(routes: int) -> PolicyFile:
    rule = {"methods": ["GET"], "allow": {"permission": "order_details"}}
    rows = [{"path": f"/t/{{tenant}}/area-{number}/orders/**", **rule} for number in range(routes)]
    orders = {"name": "orders", "host": _HOST, "upstream": ["https://10.0.0.1"], "routes": rows}
    roles = {"support": {"permissions": ["order_details"]}}
    return PolicyFile.model_validate({"permissions": ["order_details"], "roles": roles, "applications": [orders]})
