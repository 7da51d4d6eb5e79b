import subprocess
import sys

LOOK = """
import ctypes, os
from gateway.foundation.process import hide_memory
hide_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_what_is_in_memory_goes_into_no_dump_and_to_nobody_else():
    result = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=20, check=True)
    assert result.stdout == "0\n"
