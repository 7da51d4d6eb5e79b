"""Run a command as the service's unit would have it: `python sandboxed.py UNIT COMMAND…`

Applies `CapabilityBoundingSet`, `SystemCallFilter`, `MemoryDenyWriteExecute` and `NoNewPrivileges` of the unit to this
process, and becomes the command. systemd does the same before it starts a service; the tests have no systemd to ask.
"""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
CAPABILITIES = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10}
"""Those that units of ours name (linux/capability.h)."""
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO = 0x7FFF0000, 0x00050000


def values(unit: str, name: str) -> list[str]:
    lines = (line.partition("=") for line in unit.splitlines())
    return [value for key, _, value in lines if key == name]


def groups() -> dict[str, list[str]]:
    """systemd's named sets of system calls."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.startswith("@"):
            members = found.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())
    return found


def allowed(unit: str) -> set[str]:
    named = groups()

    def expand(name: str) -> set[str]:
        return set().union(*map(expand, named[name])) if name in named else {name}

    calls = expand("@default")
    for line in values(unit, "SystemCallFilter"):
        taken = set().union(*map(expand, line.lstrip("~").split()))
        calls = calls - (taken - expand("@default")) if line.startswith("~") else calls | taken
    return calls


def deny_others(calls: set[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(SCMP_ACT_ERRNO | errno.EPERM)))
    for name in calls:
        if (number := seccomp.seccomp_syscall_resolve_name(name.encode())) >= 0:
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(SCMP_ACT_ALLOW), number, 0)
    if seccomp.seccomp_load(context) != 0:
        sys.exit("the system call filter could not be loaded")


def bound_capabilities(unit: str, libc: ctypes.CDLL) -> None:
    """For good: what is not in the bounding set, no program that is started has (capabilities(7))."""
    kept = {CAPABILITIES[name] for line in values(unit, "CapabilityBoundingSet") for name in line.split()}
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if number not in kept and libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            sys.exit("a capability could not be dropped: this needs root")


def main() -> None:
    unit = Path(sys.argv[1]).read_text()
    calls = allowed(unit)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        bound_capabilities(unit, libc)
    if values(unit, "NoNewPrivileges") == ["yes"] and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit("NoNewPrivileges could not be set")
    denies_code = values(unit, "MemoryDenyWriteExecute") == ["yes"]
    if denies_code and libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        sys.exit("MemoryDenyWriteExecute could not be set: this needs Linux 6.3")
    deny_others(calls)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command of whoever runs the test.


main()
