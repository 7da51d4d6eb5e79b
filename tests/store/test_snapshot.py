import json
import stat
from contextlib import closing
from dataclasses import replace

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.errors import GatewayError, NotFound, StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.store import epoch, factors, people, sessions, snapshot, tenants, tokens
from gateway.store.engine import Store
from gateway.store.factors import Authenticator
from gateway.store.migrate import migrate, newest

KEY = Key("snapshot", "k1", 0.0, b"\1" * 32)
KEYS = KeySet((Key("snapshot", "k2", 0.0, b"\2" * 32), KEY))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_795_355_100.0)


@pytest.fixture
def inhabited(world):
    world.tenant("acme")
    ada = world.person("ada", "support@acme")
    world.session(ada, "ses_1", "orders.example")
    world.token()
    row = Authenticator("aut_1", ada, "totp", b"sealed", 100, 0, world.now)
    world.store.run(lambda c: factors.add_authenticator(c, row))
    return world


@pytest.fixture
def entropy() -> CountingEntropy:
    return CountingEntropy()


@pytest.fixture
def taken(inhabited, tmp_path, clock, entropy):
    return snapshot.create(inhabited.store, tmp_path / "snapshots", KEY, clock, entropy)


def lines(path) -> tuple[bytes, list[bytes]]:
    """Header line and encrypted chunks."""
    header, _, body = path.read_bytes().partition(b"\n")
    size = snapshot.CHUNK_BYTES + 16
    return header + b"\n", [body[start : start + size] for start in range(0, len(body), size)]


def test_a_snapshot_is_taken_listed_and_verified(taken, tmp_path, clock):
    assert taken.name == "20261122T134500Z.snapshot"
    assert (taken.created_at, taken.key, taken.schema, taken.epoch) == (clock.now(), "k1", newest(), 1)
    assert snapshot.verify(taken.path, KEYS) == taken
    assert snapshot.listing(tmp_path / "snapshots") == [taken]
    assert taken.size == taken.path.stat().st_size
    assert stat.S_IMODE(taken.path.stat().st_mode) == 0o600
    assert [path.name for path in taken.path.parent.iterdir()] == [taken.name]


def test_nothing_of_it_is_in_clear(taken):
    content = taken.path.read_bytes()
    for canary in (b"SQLite format", b"usr_ada", b"acme", b"orders.example", b"sealed"):
        assert canary not in content


def test_what_was_taken_comes_back_in_a_new_epoch(taken, inhabited, url, state_dir, clock, seals):
    store = inhabited.store
    store.run(lambda c: people.remove(c, "usr_ada", inhabited.now))
    store.run(lambda c: tenants.add(c, "later", inhabited.now))
    store.close()
    assert snapshot.restore(taken.path, KEYS, seals, state_dir, clock) == taken
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state_dir / "store").iterdir()}
    assert files == dict.fromkeys(("store.db", "store.db.before-restore", "migration.lock"), 0o600)
    with closing(Store.open(url, state_dir, seals)) as restored:
        assert [person.name for person in restored.read(people.listing)] == ["ada"]
        assert restored.read(tenants.open_names) == {"acme"}
        assert restored.read(epoch.current) == 2
        assert restored.read(lambda c: sessions.listing(c, inhabited.now)) == ()
        assert restored.read(lambda c: tokens.unrevoked(c)) == ()


@pytest.mark.advisory("CVE-2025-6014")
def test_a_code_used_after_the_snapshot_stays_used(taken, inhabited, url, state_dir, clock, seals):
    inhabited.store.run(lambda c: factors.advance_step(c, "aut_1", 200))
    inhabited.store.close()
    snapshot.restore(taken.path, KEYS, seals, state_dir, clock)
    snapshot.restore(taken.path, KEYS, seals, state_dir, clock)
    with closing(Store.open(url, state_dir, seals)) as restored:
        assert restored.run(lambda c: factors.advance_step(c, "aut_1", 200)) is False
        assert restored.run(lambda c: factors.advance_step(c, "aut_1", 201)) is True
        assert restored.read(epoch.current) == 3


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_where_no_store_can_be_read_every_code_up_to_now_counts_as_used(
    taken, inhabited, url, state_dir, clock, what, seals
):
    inhabited.store.close()
    path = state_dir / "store" / "store.db"
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\xff" * 8192)
    snapshot.restore(taken.path, KEYS, seals, state_dir, clock)
    step = int(clock.now() // 30)
    with closing(Store.open(url, state_dir, seals)) as restored:
        assert restored.run(lambda c: factors.advance_step(c, "aut_1", step)) is False
        assert restored.run(lambda c: factors.advance_step(c, "aut_1", step + 1)) is True
    aside = path.with_name("store.db.before-restore")
    assert aside.exists() is (what == "damaged")


def test_onto_a_new_machine(taken, url, tmp_path, clock, seals):
    snapshot.restore(taken.path, KEYS, seals, tmp_path / "new", clock)
    with closing(Store.open(url, tmp_path / "new", seals)) as restored:
        migrate(restored)
        assert restored.read(tenants.open_names) == {"acme"}


def tampered(header: bytes, chunks: list[bytes]) -> dict[str, bytes]:
    last = len(chunks) - 1
    flipped = {
        f"chunk {index}, byte {at}": b"".join([*chunks[:index], flip(chunks[index], at), *chunks[index + 1 :]])
        for index in range(len(chunks))
        for at in (0, len(chunks[index]) // 2, len(chunks[index]) - 1)
    }
    bodies = flipped | {
        "cut at a chunk": b"".join(chunks[:last]),
        "cut within a chunk": b"".join(chunks)[:-1],
        "cut within the tag": b"".join(chunks[:last]) + chunks[last][:10],
        "nothing but the header": b"",
        "two chunks swapped": b"".join([chunks[1], chunks[0], *chunks[2:]]),
        "a chunk twice": b"".join([chunks[0], *chunks]),
        "a chunk left out": b"".join(chunks[1:]),
        "more at the end": b"".join(chunks) + b"\0" * 17,
    }
    return {what: header + body for what, body in bodies.items()}


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_every_tampering_with_chunks_is_found(taken):
    header, chunks = lines(taken.path)
    assert len(chunks) >= 2
    for what, content in tampered(header, chunks).items():
        taken.path.write_bytes(content)
        with pytest.raises(GatewayError, match="cut short"):
            pytest.fail(f"not found: {what} in {snapshot.verify(taken.path, KEYS)}")


@pytest.mark.parametrize(
    "change",
    [
        {"created": 1.0},
        {"schema": "0000"},
        {"epoch": 9},
        {"file": "00" * 16},
        {"key": "k2"},
        {"more": 1},
    ],
)
def test_the_header_is_bound_to_the_chunks(taken, change):
    header, chunks = lines(taken.path)
    changed = json.dumps(json.loads(header) | change).encode() + b"\n"
    taken.path.write_bytes(changed + b"".join(chunks))
    with pytest.raises(GatewayError, match="changed or cut short"):
        snapshot.verify(taken.path, KEYS)


def test_chunks_of_another_snapshot_do_not_fit(taken, inhabited, tmp_path, clock, entropy):
    clock.advance(60)
    other = snapshot.create(inhabited.store, tmp_path / "snapshots", KEY, clock, entropy)
    (header, chunks), (_, others) = lines(taken.path), lines(other.path)
    taken.path.write_bytes(header + b"".join([others[0], *chunks[1:]]))
    with pytest.raises(GatewayError, match="chunk 0"):
        snapshot.verify(taken.path, KEYS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'{"format": "btb-gateway snapshot", "v": 2}\n',
        b"\xff\xfe\n",
        b"{" * 9000,
    ],
)
def test_what_is_no_snapshot_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "20261122T134500Z.snapshot"
    path.write_bytes(content)
    with pytest.raises(GatewayError, match="not a snapshot"):
        snapshot.verify(path, KEYS)


def test_a_missing_file_and_a_missing_key_are_named(taken, tmp_path):
    with pytest.raises(NotFound, match="there is no snapshot"):
        snapshot.verify(tmp_path / "nowhere.snapshot", KEYS)
    with pytest.raises(GatewayError, match="snapshot/k1, which is not in this key ring"):
        snapshot.verify(taken.path, KeySet((KEYS.keys[0],)))
    with pytest.raises(GatewayError, match="not genuine"):
        snapshot.verify(taken.path, KeySet((replace(KEY, material=b"\3" * 32),)))


def test_what_is_newer_or_was_broken_is_refused(inhabited, tmp_path, clock, entropy, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "schema", lambda _: "9999")
        newer = snapshot.create(inhabited.store, tmp_path, KEY, clock, entropy)
    with pytest.raises(GatewayError, match="newer version"):
        snapshot.verify(newer.path, KEYS)
    with monkeypatch.context() as patched:
        image = inhabited.store.backend.image()
        patched.setattr(inhabited.store.backend, "image", lambda: image[:8192] + b"\xff" * (len(image) - 8192))
        patched.setattr(snapshot, "damage", lambda _: None)
        broken = snapshot.create(inhabited.store, tmp_path, KEY, clock, entropy)
    with pytest.raises(GatewayError, match="damaged database"):
        snapshot.verify(broken.path, KEYS)


def test_of_a_damaged_store_no_snapshot_is_made(taken, inhabited, tmp_path, clock, entropy, monkeypatch):
    """Or the good ones would be pruned for the sake of those that open for nobody."""
    image = inhabited.store.backend.image()
    monkeypatch.setattr(inhabited.store.backend, "image", lambda: image[:8192] + b"\xff" * (len(image) - 8192))
    with pytest.raises(StoreTampered, match="`snapshot restore`"):
        snapshot.create(inhabited.store, tmp_path / "snapshots", KEY, clock, entropy)
    assert snapshot.listing(tmp_path / "snapshots") == [taken]


def test_a_restoring_that_fails_leaves_the_store_as_it_was(taken, inhabited, url, state_dir, clock, monkeypatch, seals):
    inhabited.store.close()
    header, chunks = lines(taken.path)
    path = state_dir / "store" / "store.db"

    def fail(*_, **__) -> None:
        raise GatewayError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(epoch, "begin", fail)
        with pytest.raises(GatewayError, match="in the middle"):
            snapshot.restore(taken.path, KEYS, seals, state_dir, clock)
    taken.path.write_bytes(header + chunks[0])
    before = path.read_bytes()
    with pytest.raises(GatewayError):
        snapshot.restore(taken.path, KEYS, seals, state_dir, clock)
    assert path.read_bytes() == before
    assert {found.name for found in path.parent.iterdir()} == {"store.db", "migration.lock"}
    with closing(Store.open(url, state_dir, seals)) as store:
        assert store.read(epoch.current) == 1


def test_the_newest_stay(inhabited, tmp_path, clock, entropy):
    folder = tmp_path / "snapshots"
    assert snapshot.listing(folder) == []
    assert snapshot.prune(folder, 2) == []
    names = []
    for _ in range(4):
        names.append(snapshot.create(inhabited.store, folder, KEY, clock, entropy).name)
        clock.advance(3600)
    (folder / "notes.txt").write_text("mine")
    assert snapshot.prune(folder, 2) == [names[1], names[0]]
    assert [info.name for info in snapshot.listing(folder)] == [names[3], names[2]]
    assert (folder / "notes.txt").exists()


def test_a_full_disk_is_told_and_keeps_nothing_of_the_attempt(inhabited, tmp_path, clock, entropy, monkeypatch):
    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.foundation.keyring.os.fsync", fail)
    with pytest.raises(GatewayError, match="No space left on device"):
        snapshot.create(inhabited.store, tmp_path / "snapshots", KEY, clock, entropy)
    assert list((tmp_path / "snapshots").iterdir()) == []
