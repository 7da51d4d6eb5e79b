"""The demo as a process of its own, in surroundings where it would show if it wrote beside its folder."""

import os
import re
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .people import Authenticator, Person
from .running import ROOT, START_SECONDS, STOP_SECONDS, until


@dataclass
class Demo:
    around: Path
    """Holds the demo's folder, and the places where a program writes that minds no folder."""
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.around / "demo"

    @property
    def ca(self) -> Path:
        return self.folder / "state" / "ca.pem"

    @property
    def printed(self) -> str:
        return (self.around / "printed").read_text()

    def url(self, name: str, path: str = "/") -> str:
        return f"https://{name}.btb.localhost:{self.port}{path}"

    def launch(self) -> subprocess.Popen[bytes]:
        """In a group of its own, as a terminal would start it."""
        for name in ("home", "tmp", "here"):
            (self.around / name).mkdir(exist_ok=True)
        with (self.around / "printed").open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "demo", "--folder", str(self.folder), "--port", str(self.port)],
                cwd=self.around / "here",
                env=self._environment(),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def start(self) -> None:
        process = self.launch()
        until(lambda: "is ready" in self.printed or process.poll() is not None, START_SECONDS, "the demo to be ready")
        assert process.poll() is None, self.printed

    def interrupt(self) -> int:
        """Ctrl-C, which reaches the whole group; the exit code."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def processes(self) -> list[int]:
        """Everything that was ever started with the environment that we gave, whoever its parent is now."""
        mark = f"HOME={self.around / 'home'}\0".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _content(path)]

    def kill(self) -> None:
        """For a test that failed."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_SECONDS)

    def strays(self) -> list[Path]:
        """Files beside the folder."""
        return [path for name in ("home", "tmp", "here") for path in (self.around / name).rglob("*")]

    def link_of(self, name: str) -> str:
        """Empty if none was printed."""
        found = re.search(rf"^  {name} .*\n    enrol within an hour: (\S+)$", self.printed, re.MULTILINE)
        return found[1] if found else ""

    def command(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *words, "--config", str(self.folder / "gateway.yaml")]
        return subprocess.run(
            command, env=self._environment(), input=given, capture_output=True, text=True, timeout=60, check=False
        )

    def add_person(self, name: str, *grants: str) -> Person:
        person = Person(name, f"{secrets.token_hex(8)} correct horse", authenticator=Authenticator())
        words = [word for grant in grants for word in ("--grant", grant)]
        given = f"{person.password}\n{person.authenticator.secret}\n"
        added = self.command("user", "add", name, *words, "--credentials-stdin", given=given)
        assert added.returncode == 0, added.stderr
        return person

    def _environment(self) -> dict[str, str]:
        home, temporary = self.around / "home", self.around / "tmp"
        return {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
