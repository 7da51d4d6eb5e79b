import subprocess
import sys

from gateway.foundation import process

LOOK = """
import ctypes, os
from gateway.foundation.process import hide_memory
hide_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_what_is_in_memory_goes_into_no_dump_and_to_nobody_else():
    result = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=20, check=True)
    assert result.stdout == "0\n"


CONFINE = """
import os, sys, threading
from pathlib import Path
from gateway.foundation.process import confine_writes
mine, others = Path(sys.argv[1]), Path(sys.argv[2])
opened = open(others / "open", "w")
assert confine_writes([mine]) is True
def refused(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
def attempts():
    print(refused(lambda: (mine / "new").write_text("x")), refused((mine / "new").unlink))
    for act in (
        lambda: (others / "new").write_text("x"),
        lambda: (others / "there").write_text("x"),
        lambda: os.truncate(others / "there", 0),
        lambda: (others / "there").unlink(),
        lambda: (others / "folder").mkdir(),
        lambda: os.rename(others / "there", others / "elsewhere"),
        lambda: os.link(others / "there", mine / "stolen"),
        lambda: os.symlink("x", others / "link"),
    ):
        print(refused(act))
    print((others / "there").read_text())
attempts()
thread = threading.Thread(target=attempts)
thread.start()
thread.join()
opened.write("still")
opened.close()
print(Path("/proc/self/status").read_text().partition("NoNewPrivs:\t")[2][0])
"""


def test_a_confined_process_changes_what_is_its_own_and_nothing_else(tmp_path):
    """This runs as root as well as it does as anybody."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    for folder in (mine, others):
        folder.mkdir()
    (others / "there").write_text("as it was")
    command = [sys.executable, "-c", CONFINE, str(mine), str(others)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.stderr == ""
    *attempts, gains_nothing = result.stdout.splitlines()
    one = ["done done", *["PermissionError"] * 6, "OSError", "PermissionError", "as it was"]
    assert attempts == one * 2 or attempts == [each.replace("OSError", "PermissionError") for each in one] * 2
    assert gains_nothing == "1"
    assert (others / "there").read_text() == "as it was"
    assert (others / "open").read_text() == "still"


def test_a_kernel_that_cannot_says_so(monkeypatch, tmp_path):
    class Old:
        def syscall(self, *_):
            return -1

    monkeypatch.setattr(process.ctypes, "CDLL", lambda *_, **__: Old())
    assert process.confine_writes([tmp_path]) is False


MISSING = """
import sys
from pathlib import Path
from gateway.foundation.process import confine_writes
confine_writes([Path(sys.argv[1])])
"""


def test_a_folder_that_is_not_there_is_a_fault(tmp_path):
    command = [sys.executable, "-c", MISSING, str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert "FileNotFoundError" in result.stderr
