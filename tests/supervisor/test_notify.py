"""What a service manager hears, and that nobody waits for one."""

import socket

import pytest

from gateway.supervisor.notify import notify


@pytest.mark.parametrize("is_abstract", [False, True], ids=["file", "abstract"])
def test_all_lines_are_one_datagram(tmp_path, monkeypatch, is_abstract):
    path = f"@btb-{tmp_path.name}" if is_abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(path.replace("@", "\0"))
        notify("RELOADING=1", "MONOTONIC_USEC=5")
        notify("READY=1")
        assert [manager.recv(4096), manager.recv(4096)] == [b"RELOADING=1\nMONOTONIC_USEC=5", b"READY=1"]


@pytest.mark.parametrize("path", [None, "", "relative", "vsock:2:1", "/nowhere/notify", "@nobody", "/" + "x" * 200])
def test_where_nobody_listens_nothing_happens(monkeypatch, path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if path is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("READY=1")


def test_one_that_does_not_read_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        for _ in range(5000):
            notify("READY=1")
