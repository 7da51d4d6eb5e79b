import base64
import json
import os
import stat

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import (
    BY_NAME,
    PUBLISHED_SECONDS,
    PURPOSES,
    Key,
    Keyring,
    KeySet,
    key_versions,
    seal,
    unseal,
    write_private,
)

MASTER = b"m" * 32
ENTROPY = SystemEntropy()
NAMES = [purpose.name for purpose in PURPOSES]
ROWS = {
    "supervisor": {"tls"},
    "worker": {"assertion", "session", "hand-over", "seal"},
    "portal": {"session", "hand-over", "factor", "seal"},
    "keeper": {"session", "seal", "journal", "snapshot"},
}


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "keys"


@pytest.fixture
def keyring(folder, clock):
    return Keyring(folder, MASTER, clock, ENTROPY)


def key(material=b"\x01" * 32):
    return Key("session", "k1", 0.0, material)


def read(path):
    return json.loads(path.read_text())


def edit(path, change):
    content = read(path)
    change(content)
    path.write_text(json.dumps(content))


# Who gets what.


@pytest.mark.parametrize("process", ROWS)
def test_a_process_gets_the_keys_of_its_row_and_no_others(keyring, process):
    given = keyring.for_process(process)
    assert set(given) == ROWS[process]
    assert all(one.purpose == name for name, keys in given.items() for one in keys.keys)


def test_every_row_is_read_by_somebody_and_says_what_its_loss_means():
    assert set(NAMES) == set().union(*ROWS.values())
    assert all(row.does and row.loss and row.readers for row in PURPOSES)


def test_the_parts_that_strangers_reach_cannot_sign_history_or_read_snapshots():
    for process in ("portal", "worker"):
        assert not ROWS[process] & {"journal", "snapshot", "tls"}
    assert BY_NAME["factor"].readers == {"portal"}
    assert BY_NAME["journal"].readers == {"keeper"}


@pytest.mark.parametrize("name", NAMES)
def test_a_key_of_each_kind_does_its_work_and_goes_through_a_pipe(keyring, name):
    current = keyring.load(name).current
    assert Key.from_json(json.loads(json.dumps(current.as_json()))) == current
    match BY_NAME[name].kind:
        case "symmetric":
            assert len(current.material) == 32
        case "ed25519":
            current.ed25519_private_key().sign(b"message")
        case "ec-p256":
            assert current.ec_private_key().curve.name == "secp256r1"


def test_a_key_made_once_is_the_same_afterwards(keyring, folder, clock):
    first = keyring.load("session")
    assert Keyring(folder, MASTER, clock, ENTROPY).load("session") == first


def test_a_symmetric_key_is_no_ec_key():
    with pytest.raises((TypeError, ValueError)):
        key().ec_private_key()


# At rest.


def test_nothing_is_in_clear_under_the_state_folder(keyring, folder):
    planted = [one.material for name in NAMES for one in keyring.load(name).keys]
    planted += [MASTER, *(one.derive("seal") for name in NAMES for one in keyring.load(name).keys)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == len(NAMES)
    for content in (path.read_bytes() for path in files):
        # What the files hold in base64 counts as well as what they hold as it is.
        wrapped = [base64.b64decode(version["wrapped"]) for version in json.loads(content)["versions"]]
        for secret in planted:
            spellings = (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret))
            assert not any(spelling in each for spelling in spellings for each in (content, *wrapped))


def test_only_the_owner_may_read_keys(keyring, folder):
    before = os.umask(0)
    try:
        keyring.load("factor")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "factor.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["factor.json"]


def test_what_a_crash_has_left_behind_neither_opens_the_file_nor_leads_elsewhere(tmp_path):
    path, elsewhere = tmp_path / "key", tmp_path / "elsewhere"
    left = tmp_path / ".key.new"
    left.write_text("left")
    left.chmod(0o666)
    write_private(path, b"one")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o600)
    elsewhere.write_text("mine")
    left.symlink_to(elsewhere)
    write_private(path, b"two")
    assert (path.read_bytes(), elsewhere.read_text()) == (b"two", "mine")


def test_neither_a_key_nor_a_set_of_keys_prints_itself(keyring):
    keys = keyring.load("session")
    for text in (repr(keys), str(keys.current), f"{keys}"):
        assert keys.current.id in text
        for secret in (repr(keys.current.material)[2:-1], keys.current.material.hex(), "material"):
            assert secret not in text


# Wrapped: bound to master key, purpose and id.


@pytest.mark.parametrize("name", NAMES)
def test_another_master_key_is_refused(keyring, folder, clock, name):
    keyring.load(name)
    other = Keyring(folder, b"n" * 32, clock, ENTROPY)
    before = (folder / f"{name}.json").read_bytes()
    for attempt in (other.load, other.rotate):
        with pytest.raises(GatewayError, match=f"'{name}'.*does not open with this master key"):
            attempt(name)
    assert (folder / f"{name}.json").read_bytes() == before


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_short_master_key_is_refused(folder, clock, length):
    with pytest.raises(GatewayError, match="too short: it needs 32 random bytes"):
        Keyring(folder, b"m" * length, clock, ENTROPY)


def test_keys_of_two_purposes_cannot_be_swapped(keyring, folder):
    paths = [folder / "session.json", folder / "factor.json"]
    for name in ("session", "factor"):
        keyring.load(name)
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    for name in ("session", "factor"):
        with pytest.raises(GatewayError, match="does not open"):
            keyring.load(name)


def test_two_versions_of_a_key_cannot_be_swapped_under_their_ids(keyring, folder):
    keyring.load("session")
    keyring.rotate("session")

    def swap(content):
        first, second = content["versions"]
        first["wrapped"], second["wrapped"] = second["wrapped"], first["wrapped"]

    edit(folder / "session.json", swap)
    with pytest.raises(GatewayError, match="does not open"):
        keyring.load("session")


def test_an_id_cannot_be_changed(keyring, folder):
    keyring.load("session")
    edit(folder / "session.json", lambda content: content["versions"][0].update(id="000000000000"))
    with pytest.raises(GatewayError, match="does not open"):
        keyring.load("session")


def test_no_single_byte_can_be_changed_without_being_told(keyring, folder):
    keyring.load("session")
    path = folder / "session.json"
    wrapped = bytearray(base64.b64decode(read(path)["versions"][0]["wrapped"]))
    for index in range(len(wrapped)):
        wrapped[index] ^= 1
        text = base64.b64encode(wrapped).decode()
        edit(path, lambda content, text=text: content["versions"][0].update(wrapped=text))
        with pytest.raises(GatewayError, match="does not open"):
            keyring.load("session")
        wrapped[index] ^= 1


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '"text"',
        "null",
        '{"versions": []}',
        '{"versions": {}}',
        '{"versions": [1]}',
        '{"versions": [{}]}',
        '{"versions": [{"id": "a", "created": 0}]}',
        '{"versions": [{"id": "a", "created": 0, "wrapped": "%%%"}]}',
        '{"versions": [{"id": "a", "created": 0, "wrapped": "YQ"}]}',
        '{"versions": [{"id": "a", "created": "long ago", "wrapped": "YQ=="}]}',
        "\udcff",
    ],
)
def test_a_damaged_file_is_told_and_never_replaced(keyring, folder, damage):
    path = folder / "session.json"
    keyring.load("session")
    path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    for attempt in (keyring.load, keyring.rotate, lambda name: key_versions(folder, name)):
        with pytest.raises(GatewayError, match=r"session\.json is damaged"):
            attempt("session")
    assert path.read_bytes() == before


def test_what_cannot_be_read_or_written_is_told(keyring, folder, tmp_path):
    """The supervisor rotates while it runs: a full or broken disk must not end it."""
    (folder / "session.json").mkdir(parents=True)
    for attempt in (keyring.load, keyring.rotate):
        with pytest.raises(GatewayError, match=r"session\.json can't be read: Is a directory"):
            attempt("session")
    (tmp_path / "file").write_text("")
    elsewhere = Keyring(tmp_path / "file", MASTER, FixedClock(), ENTROPY)
    for attempt in (elsewhere.load, elsewhere.rotate):
        with pytest.raises(GatewayError, match=r"session\.json can't be written"):
            attempt("session")


# Sealed by a key.


def test_what_was_sealed_opens_for_what_it_was_bound_to(keyring):
    keys = keyring.load("factor")
    sealed = seal(keyring.load("factor").current, b"secret", "factor/usr_1/aut_1", ENTROPY)
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


# Rotation.


@pytest.mark.parametrize("name", NAMES)
def test_after_a_rotation_the_new_version_is_first_and_the_old_one_still_good(keyring, name):
    old = keyring.load(name).current
    made = keyring.rotate(name)
    keys = keyring.load(name)
    assert keys.current == made != old
    assert keys.find(old.id) == old
    assert keys.find("nothing") is None


def test_what_an_older_version_sealed_or_signed_stays_good(keyring):
    sealed = seal(keyring.load("factor").current, b"secret", "row/1", ENTROPY)
    signature = keyring.load("journal").current.ed25519_private_key().sign(b"head")
    old = keyring.load("journal").current.id
    for name in ("factor", "journal"):
        keyring.rotate(name)
    assert unseal(keyring.load("factor"), sealed, "row/1") == b"secret"
    assert seal(keyring.load("factor").current, b"new", "row/1", ENTROPY).startswith(
        keyring.load("factor").current.id.encode()
    )
    keyring.load("journal").find(old).ed25519_private_key().public_key().verify(signature, b"head")


def test_keys_that_data_rests_on_are_never_dropped(keyring):
    first = keyring.load("factor").current
    for _ in range(6):
        keyring.rotate("factor")
    assert len(keyring.load("factor").keys) == 7
    assert keyring.load("factor").find(first.id) == first


def test_keys_that_only_sign_are_kept_for_their_overlap(keyring):
    made = [keyring.load("assertion").current, *(keyring.rotate("assertion") for _ in range(4))]
    assert keyring.load("assertion").keys == tuple(reversed(made))[:3]


def test_a_new_key_signs_once_everybody_has_had_time_to_fetch_it(keyring, clock):
    old = keyring.load("assertion").current
    assert keyring.load("assertion").signing(clock.now()) == old
    clock.advance(10)
    new = keyring.rotate("assertion")
    keys = keyring.load("assertion")
    assert keys.signing(clock.now()) == old
    assert keys.signing(clock.now() + PUBLISHED_SECONDS - 1) == old
    assert keys.signing(clock.now() + PUBLISHED_SECONDS) == new


def test_versions_can_be_listed_without_the_master_key(keyring, folder, clock):
    assert key_versions(folder, "session") == []
    old = keyring.load("session").current
    clock.advance(5)
    new = keyring.rotate("session")
    listed = [(each.id, each.created, each.is_current) for each in key_versions(folder, "session")]
    assert listed == [(new.id, clock.now(), True), (old.id, clock.now() - 5, False)]
