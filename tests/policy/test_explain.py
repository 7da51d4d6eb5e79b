from typing import Any

import pytest

from gateway.policy.cases import question_for
from gateway.policy.decide import Decision, Question, decide
from gateway.policy.explain import explain
from gateway.policy.reasons import Reason, Verdict
from gateway.policy.schema import Identity
from gateway.policy.values import parse_request


def asked(words: Any, who: dict[str, Any], request: str) -> tuple[Question, Decision]:
    rule = {"any_of": [{"permission": "pay", "otp_within": "5m"}, {"permission": "write"}]}
    policy = words.policy_of(words.application(words.route("/t/{tenant}/x", rule)))
    question = question_for(policy, Identity.model_validate(who), parse_request(request))
    return question, decide(policy, question)


def test_a_challenge_in_words(words: Any) -> None:
    question, decision = asked(words, {"grants": ["payer@acme", "reader@other"]}, "GET https://shop.test/t/acme/x")
    assert explain(question, decision).text.splitlines() == [
        "challenge (fresh-code): The route needs a one-time code that was given more recently.",
        "  + route shop:/t/{tenant}/x",
        "  + an identity",
        "  + a grant at the tenant",
        "  ? any of: fresh-code",
        "    ? all of: fresh-code",
        "      + permission pay",
        "      ? a one-time code in the last 5m: fresh-code",
        "    - permission write: permission (missing write)",
        "  application: shop",
        "  route: shop:/t/{tenant}/x",
        "  tenant: acme",
        "  grants: payer@acme, reader@other",
        "  permissions: pay",
    ]


def test_an_allow_as_json(words: Any) -> None:
    question, decision = asked(words, {"grants": ["payer@*"], "otp_age": "1m"}, "GET https://shop.test/t/acme/x")
    found = explain(question, decision).as_json
    assert found["decision"] == "allow"
    assert found["reason"] == "granted"
    assert found["until"] == "2027-01-15T08:04:00.000000Z"
    assert found["permissions"] == ["pay"]
    assert found["trace"][-1] == {  # type: ignore[index]  # The JSON is typed as what json.dumps takes.
        "rule": "permission write",
        "depth": 1,
        "decision": "deny",
        "reason": "permission",
    }


def test_an_unmapped_request(words: Any) -> None:
    question, decision = asked(words, {}, "GET https://elsewhere.test/")
    lines = explain(question, decision).text.splitlines()
    assert lines[0] == "deny (host): No application is served under this host."


@pytest.mark.requirement("SP 800-207 tenet 4")
def test_it_says_what_the_decision_says_and_decides_nothing(words: Any) -> None:
    question, decision = asked(words, {"grants": ["writer@acme"]}, "GET https://shop.test/t/acme/x")
    turned = decision._replace(verdict=Verdict.DENY, reason=Reason.RESTRICTED)
    assert explain(question, turned).text.startswith("deny (restricted)")


def test_how_it_would_be_carried_without_a_value_of_a_header(words: Any) -> None:
    more = {
        "host_header": "shop.internal",
        "strip_prefix": "/t/{tenant}",
        "add_prefix": "/v2",
        "request_headers": {"set": {"Authorization": "Basic canary"}, "remove": ["Referer"]},
        "timeouts": {"upstream_head": "5s", "total": "1m"},
        "limits": {"body": "1KiB"},
        "maintenance": "Until six.",
    }
    policy = words.policy_of(words.application(words.route("/t/{tenant}/x"), **more))
    identity = Identity.model_validate({"grants": ["payer@acme"]})
    question = question_for(policy, identity, parse_request("GET https://shop.test/t/acme/x"))
    found = explain(question, decide(policy, question))
    assert found.as_json["decision"] == "allow"
    assert found.as_json["terms"] == {
        "host header": "shop.internal",
        "prefix stripped": "/t/{tenant}",
        "prefix added": "/v2",
        "request headers": "sets authorization, removes referer",
        "time limits": "answer 5s, total 60s",
        "body limit": "1024 bytes",
        "maintenance": "Until six.",
    }
    assert "  prefix stripped: /t/{tenant}" in found.text.splitlines()
    assert "canary" not in f"{found}"
