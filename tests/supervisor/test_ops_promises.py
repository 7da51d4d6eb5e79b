"""A token that is limited, or over, is limited and over for the metrics too."""

from dataclasses import replace

import pytest

from gateway.foundation.principal import Credential, Grant, Principal
from gateway.supervisor.ops import may_read_metrics

NOW = 1_800_000_000.0
SCRAPER = Principal("svc_1", "scraper", "-", frozenset({Grant("monitoring", "-")}), Credential("token", "tok_1"))


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"until": NOW + 1}, True),
        ({"until": NOW}, False),
        ({"applications": frozenset({"orders"})}, False),
        ({"applications": frozenset()}, False),
    ],
)
def test_a_limit_of_the_token_holds_here(place, changes, may):
    assert may_read_metrics(place.configuration().policy, replace(SCRAPER, **changes), NOW) == may
