"""The file's own tests: what they can say, and how a failing one reads."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.policy.cases import run_cases
from gateway.policy.compile import compile_policy
from gateway.policy.schema import PolicyFile

EXAMPLE = Path(__file__).parents[2] / "config" / "policy.yaml"
EARLY, MORNING = "2026-03-02T07:00:00+01:00", "2026-03-02T09:00:00+01:00"
ACME = "https://shop.test/t/acme/x"


def failures(words: Any, who: Any, **expectation: Any) -> list[Any]:
    rule = {"permission": "read"}
    hours = [{"days": ["mon"], "from": "08:00", "to": "18:00", "timezone": "Europe/Berlin"}]
    shop = words.application(
        words.route("/t/{tenant}/x", rule),
        words.route("/code", {"otp_within": "5m"}),
        words.route("/office", restrict={"addresses": ["10.0.0.0/8"], "hours": hours}),
    )
    tests = [{"name": "a sentence", "as": who, "expect": [expectation]}]
    file = words.file_of(shop, tests=tests)
    return run_cases(compile_policy(file), file.tests)


@pytest.mark.parametrize(
    ("who", "request_line", "verdict", "because"),
    [
        ({"grants": ["reader@acme"]}, f"GET {ACME}", "allow", "granted"),
        ({"grants": ["reader@*"]}, f"GET {ACME}?page=/t/other/x", "allow", None),
        ({"grants": ["reader@acme"]}, "GET wss://SHOP.test:8443/t/acme/x", "allow", None),
        ({"grants": ["reader@other"]}, f"GET {ACME}", "deny", "tenant"),
        ({"grants": ["payer@acme"]}, f"GET {ACME}", "deny", "permission"),
        ("anonymous", f"GET {ACME}", "challenge", "sign-in"),
        ({"credential": "none"}, f"GET {ACME}", "challenge", "sign-in"),
        ({"otp_age": "4m"}, "GET https://shop.test/code", "allow", None),
        ({"otp_age": "5m"}, "GET https://shop.test/code", "challenge", "fresh-code"),
        ({"credential": "token"}, "GET https://shop.test/code", "deny", "not-for-services"),
        ({"address": "10.9.9.9", "at": MORNING}, "GET https://shop.test/office", "allow", None),
        ({"address": "10.9.9.9", "at": EARLY}, "GET https://shop.test/office", "deny", "restricted"),
        ({"address": "11.9.9.9", "at": MORNING}, "GET https://shop.test/office", "deny", "restricted"),
        ({"at": MORNING}, "GET https://shop.test/office", "deny", "restricted"),
        ({}, "GET https://shop.test/t/acme/../other/x", "deny", "ambiguous"),
        ({}, "GET https://shop.test/t/acme\\x", "deny", "malformed"),
        ({}, "GET https://elsewhere.test", "deny", "host"),
        ({}, "PUT https://shop.test/code", "deny", "method"),
    ],
)  # fmt: skip
def test_what_a_test_can_say(words: Any, who: Any, request_line: str, verdict: str, because: str | None) -> None:
    expectation = {"request": request_line, "is": verdict, **({"because": because} if because else {})}
    assert failures(words, who, **expectation) == []


def test_a_failing_test_says_what_where_and_why(words: Any) -> None:
    (failure,) = failures(words, {"grants": ["payer@acme"]}, **{"request": f"GET {ACME}", "is": "allow"})
    assert (failure.case, failure.expected, failure.got) == ("a sentence", "allow", "deny because of permission")
    assert failure.problem.path == "tests[0].expect[0]"
    assert failure.problem.message == f"'a sentence': GET {ACME} should be allow, and is deny because of permission"
    assert "- permission read: permission (missing read)" in failure.problem.hint


def test_the_right_answer_for_the_wrong_reason_fails(words: Any) -> None:
    expectation = {"request": f"GET {ACME}", "is": "deny", "because": "tenant"}
    (failure,) = failures(words, {"grants": ["payer@acme"]}, **expectation)
    assert failure.expected == "deny because of tenant"


def test_each_expectation_is_counted(words: Any) -> None:
    expect = [{"request": f"GET {ACME}", "is": verdict} for verdict in ("allow", "challenge", "deny")]
    tests = [{"name": name, "as": {}, "expect": expect} for name in ("one", "two")]
    file = words.file_of(words.application(words.route("/t/{tenant}/x")), tests=tests)
    found = run_cases(compile_policy(file), file.tests)
    assert [failure.problem.path for failure in found] == [
        f"tests[{test}].expect[{number}]" for test in (0, 1) for number in (0, 1)
    ]


def test_the_example_keeps_its_promises() -> None:
    file = PolicyFile.model_validate(YAML(typ="safe").load(EXAMPLE.read_text(encoding="utf-8")))
    assert run_cases(compile_policy(file), file.tests) == []
    assert len(file.tests) >= 5
