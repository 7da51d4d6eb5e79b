"""SQLite, embedded: all that is its own way. One file, one writer at a time, readers that hold up nobody (WAL).

Law: only `create` makes the file; every connection opens an existing one, so that a store that vanished is a fault
and never an empty store. What is committed is on disk (`synchronous=FULL`). The file is its owner's alone, unless its
folder is shared; SQLite gives its log and its index the mode of the file itself. In a shared folder others choose what
stands under a name, so no link is followed. And nothing is read or written through tables that our migrations did not
make.
"""

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.foundation.keyring import write_private
from gateway.store.tables import DIGEST

SHARED_MODE = 0o664
DAMAGED = "the store's file is damaged: put back a copy with `snapshot restore`"
RESERVE_BYTES = 12 << 20
"""Of the log. A third of it may be in use, until SQLite brings it into the database (4 MB); what is left takes some
hundreds of commands, when not one page of it can be brought there. Its index needs no second page for it."""
BLOCK_BYTES = 512
"""What stat(2) counts in, whatever the file system."""
BUSY_SECONDS = 2.0
"""How long a transaction waits for another process's, which takes milliseconds."""

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    # A database that somebody else has written can't run its own functions through views and triggers.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    # What is too large to be sorted in memory would lie about in clear, in a folder of somebody else's.
    "PRAGMA temp_store = MEMORY",
    # One large transaction (the end of all sessions) leaves a large log behind: cut it back afterwards.
    f"PRAGMA journal_size_limit = {16 << 20}",
)


class Sqlite:
    def __init__(self, state_dir: Path, name: str = "store.db", folder: str = "store") -> None:
        self.path = state_dir / folder / name
        self._opened_on: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"Sqlite({str(self.path)!r})"

    def exists(self) -> bool:
        return self.path.exists()

    def create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_half_a_restore()
        self._make()
        with _faults(), closing(self._connect(read_only=False)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")

    def engine(self, *, read_only: bool) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=lambda: self._connect(read_only),
            poolclass=QueuePool,
            # A fault is logged with its cause, and a value may be what somebody typed into the wrong field.
            hide_parameters=True,
        )
        event.listen(engine, "begin", _begin)
        return engine.execution_options(read_only=read_only)

    def reserve(self) -> None:
        """Give the log room for what has to be written on a full disk. SQLite passes over what is behind the last valid
        frame (file format, 4.1), and begins from the front again once all is in the database: so the room stays."""
        log = self._files()[1]
        if log.exists() and log.stat().st_blocks * BLOCK_BYTES >= RESERVE_BYTES:
            return
        with _faults(), closing(self._connect(read_only=False)) as connection:
            # Where blocks can't be had without being written (posix_fallocate(3)), nobody else may be writing.
            connection.execute("BEGIN IMMEDIATE")
            descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
                connection.execute("ROLLBACK")

    def check(self) -> None:
        """A connection goes on with the file that it has open, even when the path leads to another one, or to none."""
        if self._opened_on is not None and self._identity() != self._opened_on:
            raise StoreUnavailable(f"{self.path} was replaced while it was in use: restart the gateway")

    def version(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def require_ours(self, connection: Connection) -> None:
        seen = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        if connection.info.get("schema_version") == seen:
            return
        # What SQLite has read of the tables by now may be of another moment: again, as of this one.
        connection.exec_driver_sql("PRAGMA writable_schema = RESET")
        if schema_digest(connection) != DIGEST:
            raise StoreTampered(
                "the store has tables that are not this version's: put back a copy with `snapshot restore`"
            )
        connection.info["schema_version"] = seen

    def damage(self, connection: Connection) -> str | None:
        # Whether every index leads to the rows that are there, and to no others.
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())
        return None if found == "ok" else found

    @contextmanager
    def migration_lock(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = _made(self.path.with_name("migration.lock"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def image(self) -> bytes:
        """Copied in memory, so that nothing lies about in clear."""
        with _faults(), closing(self._connect(read_only=True)) as live, closing(sqlite3.connect(":memory:")) as copy:
            live.backup(copy)
            image = bytearray(copy.serialize())
        # Not WAL: the image has no second file (SQLite's file format, 1.3.3: write and read version).
        image[18:20] = b"\x01\x01"
        return bytes(image)

    def adopt(self, image: bytes) -> None:
        """Become what `image` holds, durably."""
        self.discard()
        write_private(self.path, image)
        self._make()

    def discard(self) -> None:
        for path in self._files():
            path.unlink(missing_ok=True)

    @property
    def aside(self) -> "Sqlite":
        """Where this one is kept when another takes its place."""
        return Sqlite(self.path.parent.parent, f"{self.path.name}.before-restore")

    def take_the_place_of(self, other: "Sqlite") -> None:
        """Move to where `other` is, which stays beside. Nobody may have either open. After a crash in the middle the
        other is still there, under both names (`create`).

        The log of the other goes first: SQLite would apply it to whatever file it finds under the name.
        """
        other.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = other.aside
        aside.discard()
        main, *logs = zip(other._files(), aside._files(), strict=True)
        for path, kept in logs:
            if path.exists():
                os.replace(path, kept)
        if main[0].exists():
            os.link(*main)
        os.replace(self.path, other.path)
        _sync_folder(other.path.parent)
        other._make()

    def _forget_half_a_restore(self) -> None:
        """The last step of `take_the_place_of` was never taken: then it is still this one that counts."""
        second = self.aside.path
        with suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(second), os.lstat(self.path)):
                second.unlink()

    def _files(self) -> tuple[Path, ...]:
        return self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")

    def _make(self) -> None:
        """In a folder that is shared between users (set-group-id) its group writes, and who can pass it reads."""
        descriptor = _made(self.path)
        try:
            if os.stat(self.path.parent).st_mode & stat.S_ISGID and os.fstat(descriptor).st_uid == os.geteuid():
                os.fchmod(descriptor, SHARED_MODE)
        finally:
            os.close(descriptor)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_dev, status.st_ino

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        for path in self._files():
            if path.is_symlink():
                raise _link(path)
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,  # `_begin` starts transactions; the module's own way would start them late.
            check_same_thread=False,  # The pool gives a connection to one thread at a time.
        )
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.set_authorizer(_authorize)
        self._opened_on = self._opened_on or self._identity()
        return connection


def _made(path: Path) -> int:
    """Open a file of our own, made if there is none. Raises StoreTampered for what is another's."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _link(path) if error.errno == errno.ELOOP else error from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise StoreTampered(f"{path} is no file, or has a second name: remove the one that is not the store's")
    return descriptor


def _link(path: Path) -> StoreTampered:
    return StoreTampered(f"{path} is a link, which the gateway never makes: remove it")


def schema_digest(connection: Connection) -> str:
    """Of every table, index, view and trigger, by what made it."""
    made = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").all()
    return sha256(ascii([tuple(each) for each in made]).encode("ascii")).hexdigest()


def is_damage(fault: BaseException | None) -> bool:
    """Whether SQLite says that the file is none of its own, or not as it wrote it: that doesn't pass by waiting."""
    return _code(fault) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(fault: BaseException | None) -> bool:
    """Whether there is no room on the disk: that passes once there is."""
    return _code(fault) == sqlite3.SQLITE_FULL


def _code(fault: BaseException | None) -> int:
    """Of an extended code the lowest byte is the plain one (sqlite3.h)."""
    return int(getattr(fault, "sqlite_errorcode", 0)) & 0xFF


def damage(image: bytes) -> str | None:
    """What is wrong with a database's image, in SQLite's words; None if it is whole."""
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(image)
            found: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as fault:
        return str(fault)
    if orphan is not None:
        return f"a row of {orphan[0]} refers to a row of {orphan[2]} that is not there"
    return None if found == "ok" else found


@contextmanager
def _faults() -> Iterator[None]:
    """Where SQLAlchemy is not between, its mapping of exceptions is not either."""
    try:
        yield
    except sqlite3.Error as fault:
        if is_damage(fault):
            raise StoreTampered(DAMAGED) from fault
        raise StoreUnavailable(f"the store can't be used now ({type(fault).__name__})") from fault


def _authorize(
    _action: int, _first: str | None, _second: str | None, _database: str | None, through: str | None
) -> int:
    """Nothing is done through a trigger or a view: the store has none, and one that somebody has planted would write
    inside our own transactions, to be sealed with what we wrote. (What a foreign key does has no name.)"""
    return sqlite3.SQLITE_OK if through is None else sqlite3.SQLITE_DENY


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begin(connection: Connection) -> None:
    """A transaction that may write says so at its start: one that found out later could only fail (SQLITE_BUSY)."""
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
