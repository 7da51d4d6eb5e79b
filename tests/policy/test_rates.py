"""Rates as they are written, and which of them count for a route."""

from typing import Any

import pytest

from gateway.policy.compile import compile_policy
from gateway.policy.rates import Counted, Rate, RateLimit, Unit, parse_rate
from gateway.policy.schema import PolicyFile


@pytest.mark.parametrize("unit", Unit)
def test_a_rate_reads_as_it_is_written(unit: Unit) -> None:
    rate = parse_rate(f"7/{unit.name}")
    assert (rate, str(rate)) == (Rate(7, unit), f"7/{unit.name}")


def test_a_route_has_its_own_and_its_applications() -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/a", "methods": ["GET"], "allow": "authenticated", "rate": {"client": "1/second"}},
        {"path": "/t/{tenant}", "methods": ["GET"], "allow": "authenticated"},
    ]
    shop = {"name": "shop", "host": "shop.test", "upstream": ["https://h"], "routes": routes}
    rate = {"all": "9/day", "tenant": "2/hour"}
    policy = compile_policy(PolicyFile.model_validate({"applications": [{**shop, "rate": rate}]}))
    everybody = RateLimit("shop", Counted.ALL, Rate(9, Unit.day))
    a, t = policy.applications["shop"].routes
    assert a.limits == (RateLimit("shop:/a", Counted.CLIENT, Rate(1, Unit.second)), everybody)
    assert t.limits == (RateLimit("shop", Counted.TENANT, Rate(2, Unit.hour)), everybody)
