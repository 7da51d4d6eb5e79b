"""Operational log: one JSON object a line on standard error. Not the audit journal, and never a secret in it."""

import json
import logging
import sys
from typing import TextIO

from gateway.foundation.clock import isoformat

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": isoformat(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        taken = _STANDARD | line.keys()
        line.update((key, value) for key, value in vars(record).items() if key not in taken)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def level(name: str) -> int:
    """Of the setting `log_level`."""
    return logging.getLevelNamesMapping()[name.upper()]


def configure(process: str, stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Called once by each process's entry point."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
