import os
import pwd
import stat

import pytest

from gateway.config.schema import UsersSection
from gateway.foundation.errors import GatewayError
from gateway.supervisor import users as module
from gateway.supervisor.users import LAYOUT, ONION, Identity, acting_as, describe, furnish, identities

ACCOUNTS = {"w": (501, 601), "p": (502, 602), "k": (503, 603), "root": (0, 0), "r": (504, 0), "pp": (505, 602)}


def account(name):
    user, group = ACCOUNTS[name]
    return pwd.struct_passwd((name, "x", user, group, "", "/", "/bin/false"))


@pytest.fixture
def settings(place, monkeypatch):
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module.pwd, "getpwnam", account)

    def settings(worker, portal, keeper):
        users = UsersSection(worker=worker, portal=portal, keeper=keeper)
        return place.configuration().settings.model_copy(update={"users": users})

    return settings


def test_each_has_its_own_user_and_the_groups_of_those_it_may_reach(settings):
    found = identities(settings("w", "p", "k"))
    assert {role: (each.user, each.group, each.groups) for role, each in found.items()} == {
        "worker": (501, 601, ()), "portal": (502, 602, (601,)), "keeper": (503, 603, (601, 602)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("w", "p", "nobody-there"), "users.keeper: this machine has no user 'nobody-there'"),
        (("root", "p", "k"), "needs a user of its own, and none is root's"),
        (("w", "r", "k"), "needs a group of its own, and none is root's"),
        (("w", "p", "pp"), "needs a group of its own"),
    ],
)
def test_users_that_part_nothing(settings, names, told):
    with pytest.raises(GatewayError, match=told):
        identities(settings(*names))


def test_without_the_setting_all_are_one(place):
    settings = place.configuration().settings
    assert identities(settings) is None
    assert "one user" in describe(settings)


def test_whoever_is_not_root_is_told(settings, monkeypatch):
    wanted = settings("w", "p", "k")
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with pytest.raises(GatewayError, match="only root can give processes users of their own"):
        identities(wanted)


def test_folders_of_one_user_are_its_own_and_stay_as_they_are(tmp_path):
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "journal").mkdir(mode=0o750)
    for _ in range(2):
        furnish(state_dir, None)
        modes = {row.name: stat.S_IMODE((state_dir / row.name).stat().st_mode) for row in LAYOUT}
        assert modes.pop("journal") == 0o750
        assert set(modes.values()) == {0o700}


def test_nobody_writes_in_a_folder_that_is_not_theirs():
    """Roles are an onion: what the portal's group may, the keeper may too, and no worker."""
    assert ONION == ("worker", "portal", "keeper")
    for row in LAYOUT:
        group_writes, others_write = bool(row.mode & stat.S_IWGRP), bool(row.mode & stat.S_IWOTH)
        assert row.group is not None or not row.mode & 0o077
        assert not (group_writes and row.group == "worker")
        # Everybody who may pass the first folder makes chains there; none removes another's.
        assert not others_write or (row.name == "journal" and row.mode & stat.S_ISVTX)
        assert row.mode & 0o007 in ((0, 0o1, 0o7) if row.name != "." else (0,))


def test_who_acts_as_nobody_stays_who_they_are(tmp_path):
    before = os.geteuid(), os.getegid(), os.getgroups()
    with acting_as(None):
        (tmp_path / "file").write_text("x")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    assert (tmp_path / "file").stat().st_uid == before[0]


# Handing over, while the owner of a folder moves things about in it.

WHO = {role: Identity(name, *ACCOUNTS[name], ()) for role, name in (("worker", "w"), ("portal", "p"), ("keeper", "k"))}


@pytest.fixture
def owners(monkeypatch):
    """What is given to whom, by inode; `at[inode]` is done when that one is."""

    class Owners(dict):
        def __init__(self):
            self.at = {}

    owners = Owners()

    def fchown(descriptor, user, _group):
        inode = os.fstat(descriptor).st_ino
        owners[inode] = user
        owners.at.pop(inode, lambda: None)()

    monkeypatch.setattr(module.os, "fchown", fchown)
    return owners


def test_what_is_in_a_folder_goes_with_it_and_what_leads_elsewhere_does_not(tmp_path, owners):
    checkpoints, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    (checkpoints / "node").mkdir(parents=True)
    (checkpoints / "node" / "worker-0").write_text("x")
    elsewhere.mkdir()
    for name in ("a", "b"):
        (elsewhere / name).write_text("root's")
    (checkpoints / "link").symlink_to(elsewhere)
    (checkpoints / "node" / "second").hardlink_to(elsewhere / "a")
    os.mkfifo(checkpoints / "fifo")
    furnish(tmp_path, WHO)
    keeper = ACCOUNTS["k"][0]
    for path in (checkpoints, checkpoints / "node", checkpoints / "node" / "worker-0"):
        assert owners[path.stat().st_ino] == keeper
    for path in (elsewhere, elsewhere / "a", elsewhere / "b", checkpoints / "fifo"):
        assert path.stat().st_ino not in owners


def test_a_folder_that_becomes_a_link_leads_nobody_elsewhere(tmp_path, owners):
    """The keeper owns the folder, and swaps what is in it while root hands it over."""
    checkpoints, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    node = checkpoints / "node"
    node.mkdir(parents=True)
    elsewhere.mkdir()
    files = [folder / name for folder in (node, elsewhere) for name in ("a", "b")]
    for file in files:
        file.write_text("x")
    inodes = {file: file.stat().st_ino for file in files}

    def swap():
        if not node.is_symlink():
            node.rename(tmp_path / "aside")
            node.symlink_to(elsewhere)

    for file in files[:2]:
        owners.at[inodes[file]] = swap
    furnish(tmp_path, WHO)
    assert node.is_symlink()
    assert [inodes[file] in owners for file in files] == [True, True, False, False]
    assert elsewhere.stat().st_ino not in owners


def test_a_folder_whose_mode_alone_is_another_is_not_looked_into(tmp_path, owners, monkeypatch):
    user, group = os.geteuid(), os.getegid()
    monkeypatch.setattr(module, "LAYOUT", [row for row in LAYOUT if row.name == "checkpoints"])
    folder = tmp_path / "checkpoints"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("x")
    furnish(tmp_path, {**WHO, "keeper": Identity("us", user, group, ())})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert (folder / "file").stat().st_ino not in owners
