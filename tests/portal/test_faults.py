import json

import pytest

from gateway.portal.answers import Fault
from gateway.portal.faults import WORDS, fault_page, fault_problem


@pytest.mark.parametrize("status", WORDS)
def test_every_fault_has_words_for_people_and_for_programs(status: int) -> None:
    page, problem = fault_page(Fault(status)), fault_problem(Fault(status), "req-1")
    assert page.status == problem.status == status
    assert page.context["heading"] == json.loads(problem.body)["title"]
    assert json.loads(problem.body)["request_id"] == "req-1"


def test_whoever_has_to_wait_is_told_how_long() -> None:
    page = fault_page(Fault(429, retry_after=130))
    assert page.headers["Retry-After"] == "130"
    assert str(page.context["explanation"]).endswith("Please try again in about 3 minutes.")


def test_further_facts_are_for_programs() -> None:
    problem = fault_problem(Fault(401, facts={"sign_in": "https://login.btb.localhost/sign-in"}), "req-1")
    assert json.loads(problem.body)["sign_in"] == "https://login.btb.localhost/sign-in"
    assert problem.content_type.startswith("application/problem+json")
