"""A small policy language inside the tests: `policy_of({...routes...})`, `ask(policy, who, "GET https://…")`."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.policy.cases import question_for
from gateway.policy.compile import InvalidPolicy, compile_policy
from gateway.policy.decide import Decision, decide
from gateway.policy.match import Policy
from gateway.policy.schema import Identity, PolicyFile
from gateway.policy.values import parse_request

ROLES = {
    "reader": {"permissions": ["read"]},
    "writer": {"permissions": ["read", "write"]},
    "payer": {"permissions": ["pay"]},
}


def application(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    section = {"name": "shop", "host": "shop.test", "upstream": ["https://10.0.0.1"], **more}
    return {**section, "routes": list(routes)}


def route(path: str, allow: Any = "authenticated", methods: tuple[str, ...] = ("GET",), **more: Any) -> dict[str, Any]:
    why = {"why": "a test"} if allow == "public" else {}
    return {"path": path, "methods": list(methods), "allow": allow, **why, **more}


def file_of(*applications: dict[str, Any], **more: Any) -> PolicyFile:
    section = {"permissions": ["read", "write", "pay"], "roles": ROLES, "applications": list(applications), **more}
    return PolicyFile.model_validate(section)


def policy_of(*applications: dict[str, Any], **more: Any) -> Policy:
    return compile_policy(file_of(*applications, **more))


def problems_of(*applications: dict[str, Any], **more: Any) -> dict[str, str]:
    """By place; empty if the policy is good."""
    try:
        policy_of(*applications, **more)
    except InvalidPolicy as error:
        return {problem.path: problem.message for problem in error.problems}
    return {}


def ask(policy: Policy, who: Any, request: str) -> Decision:
    """`who`: `anonymous`, a grant, several in a list, or all that an `as:` can say."""
    if isinstance(who, str) and who != "anonymous":
        who = [who]
    identity = Identity.model_validate({"grants": who} if isinstance(who, list) else who)
    return decide(policy, question_for(policy, identity, parse_request(request)))


class Words:
    application = staticmethod(application)
    route = staticmethod(route)
    file_of = staticmethod(file_of)
    policy_of = staticmethod(policy_of)
    problems_of = staticmethod(problems_of)
    ask = staticmethod(ask)


@pytest.fixture(scope="session")
def words() -> type[Words]:
    return Words


Ask = Callable[[Policy, Any, str], Decision]
