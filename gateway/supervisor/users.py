"""Which user of the operating system each kind of process is, and what of `state_dir` each of them can reach.

Law: with `users` in the settings nobody but root reads a key file, only root connects to the socket for commands, only
portal and keeper write the store, and a chain of the journal is written by its process's user and read by the keeper.
Without `users` everybody is who started the gateway, and `check` and `status` say so.

Groups are an onion, so that no other group has to be made: everybody holds the worker's own group (the way into
`state_dir`), portal and keeper the portal's too (writing the store), the keeper its own (reading the journal).
"""

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config.schema import Settings
from gateway.foundation.errors import GatewayError
from gateway.store.sqlite import SHARED_MODE
from gateway.supervisor.roster import Role

UMASK = 0o027
"""A process's files are its own, to write; its folder's group may read them."""
ONION: tuple[Role, ...] = ("worker", "portal", "keeper")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is. `groups`: beside its own."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]


Identities = Mapping[Role, Identity]


@dataclass(frozen=True, slots=True)
class Folder:
    """One row of the layout; None is root."""

    name: str
    owner: Role | None
    group: Role | None
    mode: int
    content: Role | None = None
    """Who gets what is in it already, when it was another user's."""


# A process that makes a file durable opens the folder that has its name, so what it writes in, it may list.


LAYOUT = (
    Folder(".", None, "worker", 0o750),
    # Set-group-id: the portal's socket is the workers' group's, without a call that changes owners.
    Folder("run", None, "worker", 0o2710),
    Folder("keys", None, None, 0o700),
    # Set-group-id: files that SQLite makes belong to the writers' group, and their mode lets others read (`store`).
    Folder("store", None, "portal", 0o2771, "keeper"),
    # Sticky: everybody makes chains of their own and removes nobody else's; set-group-id: the keeper reads them all.
    Folder("journal", None, "keeper", 0o3777, "keeper"),
    Folder("checkpoints", "keeper", "keeper", 0o750, "keeper"),
    # Not beside the store: there the portal writes, too.
    Folder("anchor", "keeper", "keeper", 0o700, "keeper"),
    Folder("signing", "keeper", "keeper", 0o700, "keeper"),
    Folder("snapshots", "keeper", "keeper", 0o700, "keeper"),
)


def identities(settings: Settings) -> Identities | None:
    """By role; None: everybody is who started the gateway. Raises GatewayError for users that separate nothing."""
    if settings.users is None:
        return None
    if os.geteuid() != 0:
        raise GatewayError("users: only root can give processes users of their own: start as root, or leave it out")
    found = {role: _look_up(role, getattr(settings.users, role)) for role in ONION}
    for what, ids in (
        ("user", [each.pw_uid for each in found.values()]),
        ("group", [g.pw_gid for g in found.values()]),
    ):
        if 0 in ids or len(set(ids)) < len(ids):
            raise GatewayError(f"users: each of the three needs a {what} of its own, and none is root's")
    groups = [found[role].pw_gid for role in ONION]
    return {
        role: Identity(found[role].pw_name, found[role].pw_uid, found[role].pw_gid, tuple(groups[:depth]))
        for depth, role in enumerate(ONION)
    }


def describe(settings: Settings) -> str:
    """Who runs as whom, in a sentence for `check`."""
    if settings.users is None:
        who = user_name(os.geteuid())
        return f"All processes run as one user ({who}): a fault in one is a fault in all. The setting users parts them."
    named = ", ".join(f"{role} {getattr(settings.users, role)}" for role in ONION)
    return f"Processes run as users of their own: {named}."


def user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid:{user}"


def furnish(state_dir: Path, who: Identities | None) -> None:
    """Make the folders of `state_dir` that are not there, and with `who` give each to whom it belongs."""
    for row in LAYOUT:
        folder = state_dir / row.name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise GatewayError(f"state_dir: {folder} can't be used: {error.strerror}") from error
        if who is not None:
            _give(folder, row, who)


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """What is written meanwhile belongs to that user. For commands without a gateway, which root gives; the way back
    stays open, so this is about whose files they are and keeps nobody from anything."""
    if identity is None:
        yield
        return
    umask, groups, group = os.umask(UMASK), os.getgroups(), os.getegid()
    os.setgroups(identity.groups)
    os.setegid(identity.group)
    os.seteuid(identity.user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
        os.umask(umask)


def _look_up(role: Role, name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise GatewayError(f"users.{role}: this machine has no user {name!r}") from None


def _give(folder: Path, row: Folder, who: Identities) -> None:
    owner = 0 if row.owner is None else who[row.owner].user
    group = 0 if row.group is None else who[row.group].group
    there = folder.stat()
    is_theirs = (there.st_uid, there.st_gid) == (owner, group)
    if is_theirs and there.st_mode & 0o7777 == row.mode:
        return
    content = None if is_theirs or row.content is None else who[row.content].user
    try:
        _hand_over(folder, row, owner, group, content)
    except OSError as error:
        # The service's unit has no power to change owners: a root without limits has to do it once.
        hint = "any command that root gives while the gateway is stopped does it, like `user list`"
        raise GatewayError(f"state_dir: {folder} can't be given to its users ({error.strerror}): {hint}") from error


def _hand_over(folder: Path, row: Folder, owner: int, group: int, content: int | None) -> None:
    """`content`: who gets what is in it; None leaves that as it is. Who owns the folder may move things about in it
    meanwhile: so every name is looked up in a folder that is open already, and never by its whole path."""
    # What root has linked to another disk is meant.
    top = os.open(folder.resolve(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _hand(top, owner, group, row.mode, row.mode)
        if content is not None:
            _hand_content(top, content, group, SHARED_MODE if row.name == "store" else 0o640)
    finally:
        os.close(top)


def _hand_content(folder: int, owner: int, group: int, file_mode: int) -> None:
    """Of an open folder, all the way down. A link stays whose it is, and so does what is no file."""
    for name in os.listdir(folder):
        kind = stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            continue
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            _hand(descriptor, owner, group, 0o750, file_mode)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                _hand_content(descriptor, owner, group, file_mode)
        finally:
            os.close(descriptor)


def _hand(descriptor: int, owner: int, group: int, folder_mode: int, file_mode: int) -> None:
    """Nothing that somebody has put there to lead elsewhere, like a second name of another file."""
    there = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(there.st_mode)
    if not is_folder and (not stat.S_ISREG(there.st_mode) or there.st_nlink > 1):
        return
    # Ours while its mode is set: so this takes CAP_CHOWN, and neither CAP_FOWNER nor CAP_FSETID.
    os.fchown(descriptor, 0, os.getegid())
    os.fchmod(descriptor, folder_mode if is_folder else file_mode)
    os.fchown(descriptor, owner, group)
