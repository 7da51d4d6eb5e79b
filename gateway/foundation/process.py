"""What a process does for itself before it is given anything secret, or anything to do."""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

# Landlock (linux/landlock.h); the numbers of its calls are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ABI_VERSION_FLAG, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_CHANGES_OF_FOLDERS = sum(1 << bit for bit in range(4, 13))
"""Removing and making of every kind: LANDLOCK_ACCESS_FS_REMOVE_DIR to _MAKE_SYM."""
_SINCE = {2: _REFER, 3: _TRUNCATE}


def hide_memory() -> None:
    """No core dump of this process, and no ptrace, `/proc/<pid>/mem` or `/proc/<pid>/environ` for others of the same
    user (prctl(2), PR_SET_DUMPABLE): so a process that was taken over finds neither the keys nor the master key."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def gain_nothing() -> None:
    """No program that this process or a child of it starts has more rights than it (PR_SET_NO_NEW_PRIVS)."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def confine_writes(folders: Iterable[Path]) -> bool:
    """From now on this thread, and what it starts, changes no file but in these folders (landlock(7)), whoever its user
    is. What is open already stays open. False: the kernel can't; then users and modes are all there is.

    Raises OSError for a folder that is not there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _ABI_VERSION_FLAG)
    if version < 1:
        return False
    access = _WRITE_FILE | _CHANGES_OF_FOLDERS | sum(bit for since, bit in _SINCE.items() if version >= since)
    handled = ctypes.c_uint64(access)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0))
    try:
        for folder in folders:
            _allow(libc, ruleset, access, folder)
        gain_nothing()
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _allow(libc: ctypes.CDLL, ruleset: int, access: int, folder: Path) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(access, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
    return result
