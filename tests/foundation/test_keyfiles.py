import base64
import json
import os
import stat

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyfiles import Keyring, rewrap
from gateway.foundation.keyring import BY_NAME, PURPOSES, Key, seal, unseal, write_private

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


def reopened(folder, clock=None):
    return Keyring(folder, MASTER, clock or FixedClock(), ENTROPY)


def rotate(keyring, name):
    """A version that was made, and kept."""
    made = keyring.rotate(name)
    keyring.save()
    return made


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
        case "ec-p256":
            assert current.ec_private_key().curve.name == "secp256r1"


def test_a_key_made_once_is_the_same_afterwards(keyring, folder, clock):
    first = keyring.load("session")
    assert Keyring(folder, MASTER, clock, ENTROPY).load("session") == first


# At rest.


@pytest.mark.requirement("ASVS 13.3.1", "SP 800-207 5.5")
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
            reopened(folder).load(name)


def test_two_versions_of_a_key_cannot_be_swapped_under_their_ids(keyring, folder):
    keyring.load("session")
    rotate(keyring, "session")

    def swap(content):
        first, second = content["versions"]
        first["wrapped"], second["wrapped"] = second["wrapped"], first["wrapped"]

    edit(folder / "session.json", swap)
    with pytest.raises(GatewayError, match="does not open"):
        reopened(folder).load("session")


@pytest.mark.parametrize(("member", "value"), [("id", "000000000000"), ("created", 0.0), ("created", 4e9)])
def test_neither_an_id_nor_a_time_can_be_changed(keyring, folder, member, value):
    """A version that seems older would sign before others know it, and one that seems newer be kept for ever."""
    keyring.load("session")
    edit(folder / "session.json", lambda content: content["versions"][0].update({member: value}))
    with pytest.raises(GatewayError, match="does not open"):
        reopened(folder).load("session")


@pytest.mark.requirement("ASVS 11.2.5")
def test_no_single_byte_can_be_changed_without_being_told(keyring, folder):
    keyring.load("session")
    path = folder / "session.json"
    wrapped = bytearray(base64.b64decode(read(path)["versions"][0]["wrapped"]))
    for index in range(len(wrapped)):
        wrapped[index] ^= 1
        text = base64.b64encode(wrapped).decode()
        edit(path, lambda content, text=text: content["versions"][0].update(wrapped=text))
        with pytest.raises(GatewayError, match="does not open"):
            reopened(folder).load("session")
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
        '{"version": 2}',
        '{"version": 2, "versions": []}',
        '{"version": 2, "versions": {}}',
        '{"version": 2, "versions": [1]}',
        '{"version": 2, "versions": [{}]}',
        '{"version": 1, "versions": [{"id": "a", "created": 0, "wrapped": "YQ=="}]}',
        '{"version": 2, "versions": [{"id": "a", "created": 0}]}',
        '{"version": 2, "versions": [{"id": "a", "created": 0, "wrapped": "%%%"}]}',
        '{"version": 2, "versions": [{"id": "a", "created": 0, "wrapped": "YQ"}]}',
        '{"version": 2, "versions": [{"id": "a", "created": "long ago", "wrapped": "YQ=="}]}',
        "\udcff",
    ],
)
def test_a_damaged_file_is_told_and_never_replaced(keyring, folder, damage):
    path = folder / "session.json"
    keyring.load("session")
    path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    again = reopened(folder)
    for attempt in (again.load, again.rotate, lambda _: again.listing()):
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


# Rotation.


@pytest.mark.parametrize("name", NAMES)
def test_a_new_version_is_in_all_hands_before_it_is_used(keyring, clock, name):
    old = keyring.load(name).current
    clock.advance(1000)
    made = rotate(keyring, name)
    assert keyring.load(name).keys == (old, made)
    assert keyring.next_change() == clock.now() + BY_NAME[name].settles
    clock.advance(BY_NAME[name].settles - 0.5)
    assert keyring.load(name).current == old
    clock.advance(0.5)
    assert keyring.load(name).keys == (made, old)


def test_nothing_is_on_disk_before_it_is_saved(keyring, folder, clock):
    """A process may still refuse it."""
    old = keyring.load("session").current
    made = keyring.rotate("session")
    assert keyring.load("session").find(made.id) == made
    assert reopened(folder).load("session").keys == (old,)
    keyring.save()
    assert reopened(folder).load("session").find(made.id) == made


def test_a_rotation_that_is_under_way_needs_no_other(keyring, clock):
    """However many there are within the time that publishing takes, the one that signs is published."""
    old = keyring.load("assertion").current
    clock.advance(1000)
    made = rotate(keyring, "assertion")
    for _ in range(5):
        clock.advance(20)
        with pytest.raises(GatewayError, match=r"the last rotation of 'assertion' takes effect in \d+ s"):
            rotate(keyring, "assertion")
    assert keyring.load("assertion").keys == (old, made)
    clock.advance(20)
    assert keyring.load("assertion").current == made
    rotate(keyring, "assertion")


@pytest.mark.requirement("ASVS 11.2.2")
def test_what_an_older_version_sealed_stays_good(keyring, clock):
    sealed = seal(keyring.load("factor").current, b"secret", "row/1", ENTROPY)
    for _ in range(6):
        rotate(keyring, "factor")
        clock.advance(10 * 365 * 86_400)
    keyring.save()
    keys = keyring.load("factor")
    assert (len(keys.keys), unseal(keys, sealed, "row/1")) == (7, b"secret")


@pytest.mark.parametrize("name", [row.name for row in PURPOSES if row.overlap is not None])
def test_an_older_version_is_dropped_when_nothing_can_rest_on_it(keyring, folder, clock, name):
    row = BY_NAME[name]
    old = keyring.load(name).current
    clock.advance(1000)
    made = rotate(keyring, name)
    clock.advance(row.settles + row.overlap - 1)
    keyring.save()
    assert keyring.load(name).keys == (made, old)
    assert keyring.next_change() == clock.now() + 1
    clock.advance(1)
    assert keyring.load(name).keys == (made,)
    assert keyring.next_change() is None
    assert old.id in (folder / f"{name}.json").read_text()
    keyring.save()
    assert old.id not in (folder / f"{name}.json").read_text()
    assert [each.id for each in keyring.listing() if each.purpose == name] == [made.id]


def test_a_second_rotation_waits_until_the_first_one_s_older_version_is_retired(keyring, clock):
    old = keyring.load("seal").current
    clock.advance(1000)
    made = rotate(keyring, "seal")
    clock.advance(10 * 365 * 86_400)
    with pytest.raises(GatewayError, match="the last rotation of 'seal' goes on"):
        keyring.rotate("seal")
    assert keyring.load("seal").keys == (made, old)
    keyring.retire("seal", made.id)
    assert keyring.load("seal").keys == (made,)
    rotate(keyring, "seal")


def test_what_is_retired_is_in_nobody_s_hands_and_stays_on_disk(keyring, folder, clock):
    old = keyring.load("seal").current
    clock.advance(1000)
    made = rotate(keyring, "seal")
    clock.advance(BY_NAME["seal"].settles)
    keyring.retire("seal", made.id)
    assert reopened(folder, clock=clock).load("seal").keys == (made, old)
    keyring.save()
    again = reopened(folder, clock=clock)
    assert again.load("seal").keys == again.for_process("keeper")["seal"].keys == (made,)
    assert [key.id for key in again.load_all("seal").keys] == [made.id, old.id]
    assert [(each.id, each.is_retired) for each in again.listing() if each.purpose == "seal"] == [
        (made.id, False),
        (old.id, True),
    ]
    assert again.next_change() is None
    again.save()
    rewrap(folder, MASTER, b"n" * 32, ENTROPY)
    other = Keyring(folder, b"n" * 32, clock, ENTROPY)
    assert (other.load("seal").keys, len(other.load_all("seal").keys)) == ((made,), 2)


@pytest.mark.parametrize("which", ["old", "unsettled", "nonsense"])
def test_only_what_is_in_use_and_newest_puts_others_out_of_hand(keyring, clock, which):
    old = keyring.load("seal").current
    clock.advance(1000)
    made = rotate(keyring, "seal")
    if which != "unsettled":
        clock.advance(BY_NAME["seal"].settles)
    with pytest.raises(GatewayError, match="not the only version"):
        keyring.retire("seal", {"old": old.id, "unsettled": made.id, "nonsense": "aabbccddeeff"}[which])
    assert set(keyring.load("seal").keys) == {made, old}


@pytest.mark.parametrize("name", [name for name in NAMES if not BY_NAME[name].retires])
def test_what_something_rests_on_for_ever_is_not_retired(keyring, name):
    with pytest.raises(GatewayError, match="not the only version"):
        keyring.retire(name, keyring.load(name).current.id)


def test_who_can_write_the_file_can_t_hand_out_what_is_retired(keyring, folder, clock):
    keyring.load("seal")
    clock.advance(1000)
    made = rotate(keyring, "seal")
    clock.advance(BY_NAME["seal"].settles)
    keyring.retire("seal", made.id)
    keyring.save()
    path = folder / "seal.json"
    content = json.loads(path.read_text())
    assert content["versions"][1].pop("retired") is True
    path.write_text(json.dumps(content))
    with pytest.raises(GatewayError, match="does not open"):
        reopened(folder, clock=clock).load("seal")


def test_all_versions_are_told_of(keyring, clock):
    old = keyring.load("session").current
    clock.advance(5)
    new = rotate(keyring, "session")
    listed = [(each.id, each.created, each.is_current) for each in keyring.listing() if each.purpose == "session"]
    assert listed == [(new.id, clock.now(), False), (old.id, clock.now() - 5, True)]
    assert {each.purpose for each in keyring.listing()} == set(NAMES)


def test_the_rotation_that_cannot_be_written_is_told(keyring, folder):
    keyring.load("session")
    keyring.rotate("session")
    (folder / ".session.json.new").mkdir()
    with pytest.raises(GatewayError, match=r"session\.json can't be written"):
        keyring.save()
    assert len(reopened(folder).load("session").keys) == 1


# The master key.

NEW_MASTER = b"n" * 32


def test_every_key_is_wrapped_with_the_new_master_key(keyring, folder, clock):
    rotate(keyring, "factor")
    before = {name: keyring.load(name) for name in NAMES}
    assert rewrap(folder, MASTER, NEW_MASTER, ENTROPY) == len(NAMES) + 1
    after = Keyring(folder, NEW_MASTER, clock, ENTROPY)
    assert {name: after.load(name) for name in NAMES} == before
    for name in NAMES:
        with pytest.raises(GatewayError, match="does not open"):
            reopened(folder).load(name)


@pytest.mark.parametrize("crash_after", range(len(NAMES)))
def test_after_a_crash_in_the_middle_it_is_done_again(keyring, folder, clock, monkeypatch, crash_after):
    before = {name: keyring.load(name) for name in NAMES}
    written = []

    def write(path, content):
        if len(written) == crash_after:
            raise OSError(5, "Input/output error")
        written.append(path)
        write_private(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("gateway.foundation.keyfiles.write_private", write)
        with pytest.raises(GatewayError, match="can't be written"):
            rewrap(folder, MASTER, NEW_MASTER, ENTROPY)
    assert rewrap(folder, MASTER, NEW_MASTER, ENTROPY) == len(NAMES)
    after = Keyring(folder, NEW_MASTER, clock, ENTROPY)
    assert {name: after.load(name) for name in NAMES} == before


def test_with_a_wrong_old_master_key_nothing_is_written(keyring, folder):
    for name in NAMES:
        keyring.load(name)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(GatewayError, match="opens with neither of the two master keys"):
        rewrap(folder, b"w" * 32, NEW_MASTER, ENTROPY)
    with pytest.raises(GatewayError, match="too short"):
        rewrap(folder, MASTER, b"short", ENTROPY)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
