"""Users of this machine that nobody uses just now, for processes that are to be somebody else."""

import os
import pwd
from pathlib import Path


def strangers() -> list[str]:
    """Three system accounts, each with a user and a group of its own, and nothing that runs."""
    assert os.geteuid() == 0, "this starts processes of other users: run it as root, in a container for example"
    busy = {path.stat().st_uid for path in Path("/proc").glob("[0-9]*")}
    by_group: dict[int, str] = {}
    for account in pwd.getpwall():
        if 0 < account.pw_uid < 1000 and account.pw_gid and account.pw_uid not in busy and account.pw_name.isalpha():
            by_group.setdefault(account.pw_gid, account.pw_name)
    assert len(by_group) >= 3, "this needs three system accounts, like Debian's mail, news and games"
    return sorted(by_group.values())[:3]
