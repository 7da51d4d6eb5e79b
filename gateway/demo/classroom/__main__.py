"""`python -m gateway.demo.classroom`"""

import tempfile
from pathlib import Path

from gateway.demo.classroom.app import NAME, application
from gateway.demo.web.server import run
from gateway.foundation.clock import SystemClock

with tempfile.TemporaryDirectory(prefix="classroom-") as folder:
    run(NAME, lambda verifier: application(verifier, SystemClock(), Path(folder)))
