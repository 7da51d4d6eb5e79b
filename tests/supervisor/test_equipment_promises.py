"""Keys rotated on disk are nobody's before they are everybody's; and root does not take a state folder over."""

import errno
import fcntl
import os
import stat

import pytest

from gateway.foundation import keyring
from gateway.foundation.clock import SystemClock
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import PUBLISHED_SECONDS, SETTLES
from gateway.supervisor.equipment import Equipment, StateLock
from gateway.supervisor.roster import Seat


def test_a_process_that_is_replaced_has_the_keys_of_the_others(place):
    configuration = place.configuration()
    with Equipment.for_configuration(configuration) as equipment:
        before = equipment.for_role("worker")
        renewed = equipment.renewed(configuration, "assertion")
        renewed.save_keys()
        assert equipment.for_role("worker") == before
        after = renewed.for_role("worker")
        assert [len(each["keys"]["assertion"]) for each in (before, after)] == [1, 2]


def test_a_version_that_nobody_was_given_signs_no_sooner_than_one_that_was_made_now(place, monkeypatch):
    """Its file was written, and the folder that has its name could not be made durable: the rotation was given up."""
    configuration, now, fsync = place.configuration(), SystemClock().now(), os.fsync

    def fails_for_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "I/O error")
        fsync(descriptor)

    def ids(equipment):
        return [each["id"] for each in equipment.for_role("worker")["keys"]["assertion"]]

    with Equipment.for_configuration(configuration) as equipment:
        (old,) = ids(equipment)
        with monkeypatch.context() as broken:
            broken.setattr(keyring.os, "fsync", fails_for_folders)
            given_up = equipment.renewed(configuration, "assertion")
            with pytest.raises(GatewayError, match="can't be written"):
                given_up.save_keys()
        new = given_up.newest("assertion")
        monkeypatch.setattr(SystemClock, "now", lambda _: now + 3600)
        renewed = equipment.renewed(configuration)
        renewed.save_keys()
        assert ids(renewed) == [old, new]
        # What is known by now keeps its time, and another rotation is not stopped for ever.
        monkeypatch.setattr(SystemClock, "now", lambda _: now + 3600 + PUBLISHED_SECONDS)
        assert ids(renewed.renewed(configuration)) == [new, old]
        again = equipment.renewed(configuration, "assertion")
        assert ids(again)[0] == old
        assert len(ids(again)) == 3


def test_nor_does_it_after_a_restart_while_those_before_do_not_have_it(place, monkeypatch):
    configuration, now = place.configuration(), SystemClock().now()
    with Equipment.for_configuration(configuration) as before:
        written_by_somebody = before.renewed(configuration, "session")
        written_by_somebody.save_keys()
        monkeypatch.setattr(SystemClock, "now", lambda _: now + 3600)
        left = {name: os.dup(descriptor) for name, descriptor in before.left().items()}
        with Equipment.for_configuration(configuration, left, before.known) as after:
            old, new = (each["id"] for each in after.for_role("worker")["keys"]["session"])
            assert (old in before.known, new) == (True, written_by_somebody.newest("session"))
            monkeypatch.setattr(SystemClock, "now", lambda _: now + 3600 + SETTLES)
            renewed = after.renewed(configuration).for_role("worker")["keys"]["session"]
            assert [each["id"] for each in renewed] == [new, old]


def test_root_does_not_work_on_the_state_of_another_user(tmp_path, monkeypatch):
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    if os.geteuid() == 0:
        os.chown(state_dir, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(GatewayError, match="belongs to"), StateLock(state_dir):
        pass
    assert list(state_dir.iterdir()) == []


def test_while_a_keeper_is_left_over_from_a_supervisor_that_was_killed_nobody_signs_beside_it(place):
    with Equipment.for_configuration(place.configuration()) as equipment:
        # What a process that was started with it holds: the same open file.
        kept = os.dup(equipment.descriptors(Seat("keeper", 0))["lock"])
    with pytest.raises(GatewayError, match="another gateway is working"), StateLock(place.state_dir):
        pass
    os.close(kept)
    with StateLock(place.state_dir):
        pass


def test_no_child_lets_go_of_the_supervisor_s_lock(place):
    with Equipment.for_configuration(place.configuration()) as equipment:
        for role in ("keeper", "portal", "worker"):
            for descriptor in equipment.descriptors(Seat(role, 0)).values():
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        with pytest.raises(GatewayError, match="another gateway is working"), StateLock(place.state_dir):
            pass
    with StateLock(place.state_dir):
        pass
