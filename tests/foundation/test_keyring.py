import pytest

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import BY_NAME, Key, KeySet, Purpose, is_sealed_by, live, next_change, seal, unseal

ENTROPY = SystemEntropy()


def key(material=b"\x01" * 32):
    return Key("session", "k1", 0.0, material)


def test_a_symmetric_key_is_no_ec_key():
    with pytest.raises((TypeError, ValueError)):
        key().ec_private_key()


# Sealed by a key.


def test_what_was_sealed_opens_for_what_it_was_bound_to():
    keys = KeySet((key(),))
    sealed = seal(keys.current, b"secret", "factor/usr_1/aut_1", ENTROPY)
    assert unseal(keys, sealed, "factor/usr_1/aut_1") == b"secret"
    assert b"secret" not in sealed


def hostile_sealed():
    sealed = seal(key(), b"secret", "row/1", ENTROPY)
    head, _, rest = sealed.partition(b".")
    yield "another row", sealed, "row/2"
    yield "no row", sealed, ""
    yield "nothing", b"", "row/1"
    yield "a dot", b".", "row/1"
    yield "no dot", head + rest.replace(b".", b"!"), "row/1"
    yield "too short", head + b"." + rest[:27], "row/1"
    yield "cut", sealed[:-1], "row/1"
    yield "longer", sealed + b"\0", "row/1"
    yield "unknown key", b"k2." + rest, "row/1"
    yield "id beyond ascii", b"k\xff1." + rest, "row/1"
    yield "id moved into the row", b"k1." + rest, ".row/1"
    for index in (len(head) + 1, len(head) + 13, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[index] ^= 1
        yield f"byte {index}", bytes(changed), "row/1"


@pytest.mark.parametrize(
    ("sealed", "bound_to"), [row[1:] for row in hostile_sealed()], ids=[r[0] for r in hostile_sealed()]
)
@pytest.mark.requirement("ASVS 11.2.5")
def test_what_was_not_sealed_for_this_does_not_open(sealed, bound_to):
    assert unseal(KeySet((key(),)), sealed, bound_to) is None


def test_another_key_of_the_same_id_does_not_open():
    sealed = seal(key(), b"secret", "row/1", ENTROPY)
    assert unseal(KeySet((key(material=b"\x02" * 32),)), sealed, "row/1") is None


def test_the_same_text_is_sealed_differently_each_time():
    assert seal(key(), b"x", "row", ENTROPY) != seal(key(), b"x", "row", ENTROPY)


def test_sub_keys_differ_by_label_and_length():
    one = key()
    assert one.derive("a") == one.derive("a")
    assert len({one.derive("a"), one.derive("b"), one.derive("seal"), one.material}) == 4
    assert len(one.derive("a", 16)) == 16


def test_a_sealed_text_says_by_which_version():
    sealed = seal(key(), b"x", "row", ENTROPY)
    assert is_sealed_by(key(), sealed)
    assert not is_sealed_by(Key("session", "k", 0.0, b"\x01" * 32), sealed)


# Which version counts when. One that is made at 100 settles at 110, and its elder is dropped at 130.

ROW = Purpose("p", "symmetric", frozenset(), "", "", "", settles=10.0, overlap=20.0)
KEPT = Purpose("p", "symmetric", frozenset(), "", "", "", settles=10.0)


def versions(*made):
    """Newest first, each named by its time."""
    return [Key("p", str(at), float(at), b"") for at in sorted(made, reverse=True)]


@pytest.mark.parametrize(
    ("made", "now", "expected", "changes"),
    [
        ((100,), 100, "100", None),
        ((100,), 5, "100", None),
        ((0, 100), 100, "0 100", 110),
        ((0, 100), 109.9, "0 100", 110),
        ((0, 100), 110, "100 0", 130),
        ((0, 100), 129.9, "100 0", 130),
        ((0, 100), 130, "100", None),
        # A clock that was set back: what was used last goes on.
        ((0, 100), 50, "0 100", 110),
        ((0, 100, 200), 205, "100 200", 210),
        ((0, 100, 200), 210, "200 100", 230),
        ((0, 100, 115), 116, "100 115 0", 125),
        ((0, 100, 115), 125, "115 100 0", 130),
        ((0, 100, 115), 130, "115 100", 145),
        ((0, 100, 115), 145, "115", None),
    ],
)
def test_the_one_that_signs_is_first_and_all_that_may_be_needed_are_there(made, now, expected, changes):
    assert " ".join(each.id for each in live(ROW, versions(*made), now).keys) == expected
    assert next_change(ROW, versions(*made), now) == changes


def test_without_an_overlap_nothing_is_dropped():
    found = live(KEPT, versions(0, 100, 200), 1e12)
    assert [each.id for each in found.keys] == ["200", "100", "0"]
    assert next_change(KEPT, versions(0, 100, 200), 1e12) is None


def test_between_two_changes_nothing_changes():
    made = versions(0, 100, 115, 300)
    now, seen = 0.0, []
    while (after := next_change(ROW, made, now)) is not None:
        seen.append(live(ROW, made, now))
        assert live(ROW, made, after - 0.001) == seen[-1] or after - 0.001 < now
        now = after
    assert len(set(seen)) == len(seen)


def test_what_data_rests_on_is_never_dropped():
    for name in ("session", "factor", "snapshot", "tls"):
        assert BY_NAME[name].overlap is None
