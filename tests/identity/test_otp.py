import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.identity.otp import (
    current_step,
    matching_step,
    new_secret,
    open_secret,
    parse_secret,
    provisioning_uri,
    seal_secret,
    secret_text,
)

# RFC 6238, appendix B, cut to six digits.
RFC_SECRET = b"12345678901234567890"
NOW = 1_800_000_000.0
KEYS = KeySet((Key("factor", "k1", 0.0, b"k" * 32),))
ENTROPY = SystemEntropy()


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
@pytest.mark.requirement("ASVS 6.5.5")
def test_agrees_with_the_rfc(now, code) -> None:
    assert matching_step(RFC_SECRET, code, now) == now // 30


@pytest.mark.parametrize(("steps", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
@pytest.mark.requirement("ASVS 6.5.5")
def test_one_step_of_drift_either_way(steps, fits) -> None:
    step = current_step(NOW) + steps
    code = pyotp.TOTP(secret_text(RFC_SECRET)).generate_otp(step)
    assert matching_step(RFC_SECRET, code, NOW) == (step if fits else None)


def test_spaces_are_how_apps_show_it() -> None:
    code = pyotp.TOTP(secret_text(RFC_SECRET)).generate_otp(current_step(NOW))
    for typed in (f" {code[:3]} {code[3:]} ", f"{code[:3]}\u00a0{code[3:]}", f"{code}\t"):
        assert matching_step(RFC_SECRET, typed, NOW) == current_step(NOW)


CODE = pyotp.TOTP(secret_text(RFC_SECRET)).generate_otp(current_step(NOW))


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        CODE[:5],
        CODE + "0",
        "0" + CODE,
        CODE + "\n",
        CODE[:3] + "-" + CODE[3:],
        "+" + CODE[1:],
        "".join(chr(0x660 + int(digit)) for digit in CODE),
        "".join(chr(0xFF10 + int(digit)) for digit in CODE),
        "......",
        CODE + "\x00",
        CODE * 1000,
    ],
)
@pytest.mark.advisory("CVE-2026-49443")
def test_only_six_ascii_digits(typed) -> None:
    assert matching_step(RFC_SECRET, typed, NOW) is None


def test_of_two_steps_with_one_code_the_later_is_spent(monkeypatch) -> None:
    monkeypatch.setattr(pyotp.TOTP, "generate_otp", lambda *_: "123456")
    assert matching_step(RFC_SECRET, "123456", NOW) == current_step(NOW) + 1


@given(st.binary(min_size=14, max_size=64))
def test_secrets_survive_being_copied_by_hand(secret) -> None:
    text = secret_text(secret)
    assert parse_secret(text) == secret
    assert parse_secret(" ".join(text.lower()[at : at + 4] for at in range(0, len(text), 4))) == secret


@pytest.mark.parametrize("text", ["", "AAAA", "JBSWY3DPEHPK3PXP", "1" * 32, "ÄÖÜ" * 12, "A" * 31 + "!"])
@pytest.mark.requirement("SP 800-63B-4 3.1.4 secret")
def test_bad_secrets_are_named(text) -> None:
    with pytest.raises(ValueError, match="one-time-code secret"):
        parse_secret(text)


@pytest.mark.requirement("ASVS 6.5.3", "SP 800-63B-4 3.1.4 secret")
def test_new_ones_have_160_bits() -> None:
    assert len(new_secret(ENTROPY)) == 20


def test_the_address_that_apps_scan() -> None:
    uri = provisioning_uri(RFC_SECRET, "ann lee", "btb.example")
    parsed = pyotp.parse_uri(uri)
    assert uri.startswith("otpauth://totp/btb.example:ann%20lee?")
    assert (parsed.secret, parsed.issuer, parsed.interval, parsed.digits) == (
        secret_text(RFC_SECRET),
        "btb.example",
        30,
        6,
    )


@pytest.mark.requirement("SP 800-63B-4 3.1.4 secret")
def test_a_sealed_secret_opens_for_its_own_row_only() -> None:
    sealed = seal_secret(KEYS, "usr_ada", "aut_1", RFC_SECRET, ENTROPY)
    assert RFC_SECRET not in sealed
    assert open_secret(KEYS, "usr_ada", "aut_1", sealed) == RFC_SECRET
    assert open_secret(KEYS, "usr_eve", "aut_1", sealed) is None
    assert open_secret(KEYS, "usr_ada", "aut_2", sealed) is None
    assert open_secret(KeySet((Key("factor", "k1", 0.0, b"x" * 32),)), "usr_ada", "aut_1", sealed) is None
    assert open_secret(KEYS, "usr_ada", "aut_1", b"") is None
