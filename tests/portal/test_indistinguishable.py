"""What a stranger can learn about an account from the answers to wrong passwords, and from how long they take: nothing
(ASVS 6.3.8; CVE-2026-32595)."""

import os
import time
from dataclasses import dataclass
from statistics import median

import pytest

from gateway.identity import users
from gateway.identity.limits import AUTHENTICATOR_FAILURES, password_in_a_row
from gateway.identity.passwords import Cost, Passwords
from gateway.store import factors as factor_rows
from tests.pairs import FALSE_ALARM, chance, orders

from .house import LOGIN, PASSWORD, Answered, Browser, House, url

pytestmark = pytest.mark.alone
PAIRS = int(os.environ.get("BTB_PAIRS", "150"))
"""The short form; `make timing` measures the long one."""
WRONG = "wrong password"
SLACK = 0.00025
"""Seconds. An account has rows to read where a name that nobody has has none: that takes some 200 µs, most of it to
check its seals, a two-hundredth of a hash and a seventieth of what hashes differ by among themselves. Who would see it
through that needs more attempts than a hundred in a row."""


def test_the_sign_test_sees_what_is_there_and_nothing_else() -> None:
    even = [1.0, -1.0] * 500
    assert chance(even, 0) == 1
    assert chance([1.0] * 577 + [-1.0] * 423, 0) > FALSE_ALARM > chance([1.0] * 580 + [-1.0] * 420, 0)
    assert chance([-1.0] * 580 + [1.0] * 420, 0) < FALSE_ALARM
    assert chance([1.0] * 1000, 1.0) == 1
    assert chance([2.0] * 20, 1.0) == 2 / 2**20


async def differences(first: "Stranger", second: "Stranger", pairs: int) -> list[float]:
    """How many seconds longer the first took, in each pair."""
    found = []
    for first_is_first in orders(pairs):
        if first_is_first:
            took, other = await first.seconds(), await second.seconds()
        else:
            other, took = await second.seconds(), await first.seconds()
        found.append(took - other)
    return found


async def look_the_same(first: "Stranger", second: "Stranger", capsys: pytest.CaptureFixture[str]) -> None:
    found = await differences(first, second, PAIRS)
    with capsys.disabled():
        print(
            f"\n{first.name} took {median(found) * 1e6:+.0f} µs (median of {PAIRS} pairs) against {second.name}", end=""
        )
    assert chance(found, SLACK) > FALSE_ALARM


@dataclass
class Stranger:
    """Tries passwords of one account, from an address of its own each time and as slowly as the limits ask for."""

    house: House
    name: str
    password: str
    browser: Browser
    form: Answered
    waits: bool = True

    async def answer(self) -> Answered:
        if self.waits:
            self.house.clock.advance(1800)
        return await self.browser.submit(self.form, username=self.name, password=self.password)

    async def seconds(self) -> float:
        begun = time.perf_counter()
        await self.answer()
        return time.perf_counter() - begun


async def stranger(house: House, name: str, password: str = WRONG, *, waits: bool = True) -> Stranger:
    browser = Browser(house.worker)
    return Stranger(house, name, password, browser, await browser.get(url(LOGIN, "/sign-in")), waits)


def furnish(house: House) -> None:
    """Accounts of every state; all names have as many letters as the one that nobody has."""
    house.add_user("lively")
    house.add_user("halted")
    users.disable(house.store, "halted", house.clock)
    house.add_user("worn_o")
    worn = users.find(house.store, "worn_o")
    (authenticator,) = house.store.read(lambda c: factor_rows.authenticators(c, worn.id))
    house.store.run(lambda c: factor_rows.fail(c, authenticator.id, 1, house.clock.now()))
    users.add(house.store, users.NewUser("barely"), house.clock, house.services.entropy)
    tired = users.find(house.store, house.add_user("tired_"))
    for _ in range(AUTHENTICATOR_FAILURES):
        house.store.run(lambda c: password_in_a_row(c, tired.id, house.clock.now(), known=False))
    house.add_user("gone_o")
    users.remove(house.store, "gone_o", house.clock)


STATES = [
    ("lively", "wrong password"),
    ("halted", "wrong password"),
    ("halted", PASSWORD),
    ("worn_o", PASSWORD),
    ("barely", PASSWORD),
    ("tired_", PASSWORD),
    ("gone_o", PASSWORD),
]


def seen(answered: Answered, name: str) -> tuple[object, ...]:
    """All that arrives, but for what was sent, and the time of day."""
    text = (
        answered.text.replace(name, "").replace(answered.form.fields["csrf"], "")
        if answered.status == 403
        else answered.text
    )
    headers = {name: value for name, value in answered.headers.items() if name != "Date"}
    return answered.status, headers, answered.cookies, text, len(answered.text)


@pytest.mark.parametrize(("name", "password"), STATES)
@pytest.mark.advisory("CVE-2025-6011")
@pytest.mark.requirement("ASVS 6.3.8")
async def test_the_answers_are_the_same_to_the_byte(house: House, name: str, password: str) -> None:
    furnish(house)
    theirs, nobody_s = (
        await stranger(house, name, password, waits=False),
        await stranger(house, "nobody", password, waits=False),
    )
    statuses = []
    for _ in range(12):
        answered = await theirs.answer()
        assert seen(answered, name) == seen(await nobody_s.answer(), "nobody")
        statuses.append(answered.status)
    # Until both are throttled, after the same number of attempts.
    assert statuses == [403] * 10 + [429] * 2


@pytest.mark.parametrize(("name", "password"), STATES)
@pytest.mark.advisory("CVE-2026-32595")
@pytest.mark.requirement("ASVS 6.3.8")
async def test_the_answers_take_the_same_time(
    house: House, name: str, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(house)
    await look_the_same(await stranger(house, name, password), await stranger(house, "nobody", password), capsys)


@pytest.mark.advisory("CVE-2025-6011")
async def test_throttled_answers_take_the_same_time(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    furnish(house)
    theirs, nobody_s = await stranger(house, "lively", waits=False), await stranger(house, "nobody", waits=False)
    for _ in range(10):
        await theirs.answer()
        await nobody_s.answer()
    await look_the_same(theirs, nobody_s, capsys)


@pytest.mark.advisory("CVE-2026-32595")
async def test_a_hash_that_were_left_out_would_be_seen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same measurement, on a portal with the fault that it looks for."""
    furnish(house)
    sign_in, before = house.services.sign_in, house.services.sign_in._passwords
    dear = Passwords(house.services.entropy, Cost(memory_kib=16_384, passes=1, lanes=1))
    verify = dear.verify

    async def leaves_out(encoded: str, password: str, *, is_stranger: bool = False) -> bool:
        return encoded != dear.nobody_s and await verify(encoded, password, is_stranger=is_stranger)

    monkeypatch.setattr(dear, "verify", leaves_out)
    monkeypatch.setattr(sign_in, "_passwords", dear)
    house.add_user("costly", cost=Cost(memory_kib=16_384, passes=1, lanes=1))
    found = await differences(await stranger(house, "costly"), await stranger(house, "nobody"), 60)
    dear.close()
    monkeypatch.setattr(sign_in, "_passwords", before)
    assert chance(found, SLACK) < FALSE_ALARM
