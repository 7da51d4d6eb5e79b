"""Somebody who has signed in, and wants what is kept for a full disk for themselves."""

import json

import pytest

from gateway.proxy.service import RESERVED_REQUESTS

from .rig import TestGateway
from .test_strangers import SIGN_OUT, full
from .wire import answer, request

SAME_ORIGIN = "Sec-Fetch-Site: same-origin"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_token_has_no_session_to_end(gateway: TestGateway, method: str) -> None:
    _, token = gateway.service_token()
    await full(gateway)
    got = await gateway.ask(request(SIGN_OUT, f"Authorization: Bearer {token}", method=method))
    assert (got.status, json.loads(got.body)["reason"]) == (503, "journal")
    assert gateway.portal.was_left_alone


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_asks_again_and_again_takes_a_bounded_part_of_it(gateway: TestGateway, method: str) -> None:
    """The page ends nothing, and no more does a form without its proof."""
    visitor, other = gateway.visitor(), gateway.visitor(name="berta")
    await full(gateway)
    gateway.portal.answers(answer(status="403 Forbidden"))
    wire = request(SIGN_OUT, visitor.header, SAME_ORIGIN, method=method)
    statuses = [(await gateway.ask(wire)).status for _ in range(RESERVED_REQUESTS + 5)]
    assert statuses == [403] * RESERVED_REQUESTS + [503] * 5
    assert sum(each["kind"] == "decision" for each in gateway.durable()) == RESERVED_REQUESTS
    # Which leaves the rest to everybody else.
    gateway.portal.answers(answer())
    assert (await gateway.ask(request(SIGN_OUT, other.header, SAME_ORIGIN, method=method))).status == 200
