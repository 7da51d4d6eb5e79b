"""The Python recipe of `docs/applications.md`, as it stands there."""

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

Recipe = Callable[[str, str], dict[str, Any]]
DOCUMENT = Path(__file__).parents[2] / "docs" / "applications.md"


@pytest.fixture
def issuer(key_set: Any) -> str:
    return f"https://localhost:{key_set.url.split(':')[2].partition('/')[0]}"


@pytest.fixture
def recipe(key_set: Any, issuer: str) -> Recipe:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1].replace("https://login.apps.example.com", issuer), names)  # noqa: S102 - our own documentation.
    names["KEYS"].ssl_context = ssl.create_default_context(cafile=key_set.ca)
    taken: Recipe = names["visitor"]
    return taken


async def test_it_takes_a_good_one(recipe: Recipe, signer: Any, issuer: str) -> None:
    claims = await asyncio.to_thread(recipe, signer.assertion(iss=issuer), "acme")
    assert claims["name"] == "Ada Byron"


WRONG = {
    "audience": {"aud": "classroom"},
    "audiences": {"aud": ["orders"]},
    "issuer": {"iss": "https://login.evil.example"},
    "tenant": {"tenant": "globex"},
    "life": {"exp": int(time.time()) - 60},
    "no end": {"exp": ...},
    "no tenant": {"tenant": ...},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.advisory("ALBeast")
async def test_it_refuses(recipe: Recipe, signer: Any, issuer: str, wrong: str) -> None:
    with pytest.raises(jwt.PyJWTError):
        await asyncio.to_thread(recipe, signer.assertion(**({"iss": issuer} | WRONG[wrong])), "acme")


async def test_every_file_that_the_page_names_exists() -> None:
    for path in re.findall(r"`((?:gateway|tests|docs|deploy)/[\w./]+)`", DOCUMENT.read_text()):
        assert (DOCUMENT.parents[1] / path).exists(), path
