"""One gateway with two workers for all the tests that don't hurt it, and one upstream behind every gateway."""

from collections.abc import Iterator

import pytest

from .browser import Browser
from .people import Person
from .running import Gateway, running
from .upstream import Upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The common one. Its state is deeply shared: a test brings its own people and its own addresses."""
    with running(Gateway(tmp_path_factory.mktemp("gateway"), upstream)) as gateway:
        yield gateway
        assert gateway.stop() == 0


@pytest.fixture
def browser(gateway: Gateway) -> Browser:
    return gateway.browser()


@pytest.fixture
def person(gateway: Gateway, request: pytest.FixtureRequest) -> Person:
    """Somebody with access to orders of acme, and to its money."""
    return gateway.add_person(f"{request.node.name}@acme.example", "finance@acme", home="acme")
