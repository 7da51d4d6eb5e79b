import pytest

from gateway.identity.cookies import DEVICE_SECONDS
from gateway.identity.devices import Device, device_cookie, open_device

FACTORS = "aut_1 aut_2"


def cookie(world, name="ada", keys=None) -> str:
    return device_cookie(keys or world.keys.session, name, FACTORS, world.clock, world.entropy)


def test_opens_for_its_own_name(world) -> None:
    keys = world.keys.session
    device = open_device(keys, "ada", cookie(world), world.clock)
    assert isinstance(device, Device)
    assert device.factors == FACTORS
    assert open_device(keys, "ada", cookie(world), world.clock).id != device.id
    assert open_device(world.rotated(keys), "ada", cookie(world), world.clock) is not None


@pytest.mark.requirement("ASVS 4.2.5")
def test_shows_nothing_and_fits_a_cookie(world) -> None:
    text = cookie(world)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert len(text) < 512
    assert "aut_" not in text


@pytest.mark.parametrize("name", ["eve", "", "ad", "ada ", "\ud800"])
def test_not_for_another_name(world, name) -> None:
    assert open_device(world.keys.session, name, cookie(world), world.clock) is None


def test_forgeries(world) -> None:
    good = cookie(world)
    forged = [
        "",
        "x",
        "=",
        "é",
        "A" * 64,
        "A" * 5000,
        good + "AAAA",
        good[:-4],
        cookie(world, keys=world.symmetric("session")),
    ]
    forged += [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in range(0, len(good), 5)]
    for text in forged:
        assert open_device(world.keys.session, "ada", text, world.clock) is None


@pytest.mark.parametrize(("age", "is_good"), [(DEVICE_SECONDS, True), (DEVICE_SECONDS + 1, False), (-3600, True)])
def test_ends_when_a_browser_would_drop_it(world, age, is_good) -> None:
    text = cookie(world)
    world.clock.advance(age)
    assert (open_device(world.keys.session, "ada", text, world.clock) is not None) is is_good
