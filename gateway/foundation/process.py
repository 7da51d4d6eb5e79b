"""What a process does for itself before it is given anything secret."""

import ctypes

_PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """No core dump of this process, and no ptrace, `/proc/<pid>/mem` or `/proc/<pid>/environ` for others of the same
    user (prctl(2), PR_SET_DUMPABLE): so a process that was taken over finds neither the keys nor the master key."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
