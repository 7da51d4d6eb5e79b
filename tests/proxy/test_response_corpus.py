"""The corpus of odd and hostile answers (`tests/corpus/responses`): each passes, or is a 502 after which its connection
is not used again."""

import pytest

from .corpus import Case, Refused, cases
from .rig import TestGateway
from .wire import answer, request


@pytest.mark.parametrize("case", cases("responses/heads"), ids=lambda case: case.name)
async def test_what_becomes_of_each_answer(gateway: TestGateway, case: Case) -> None:
    (outcome,) = case.outcomes
    gateway.application.answers(case.wire)
    got = await gateway.ask(request())
    if isinstance(outcome, Refused):
        assert got.status == outcome.status
        assert got.body != b"ok"
        assert not got.values("X-A")
        gateway.application.answers(answer())
        assert (await gateway.ask(request())).status == 200
        assert gateway.application.accepted == 2
    else:
        assert (got.status // 100, got.body) == (2, outcome.body)
