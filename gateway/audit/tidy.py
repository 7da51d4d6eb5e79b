"""Gives back the disk space that a dead process left in its chain's folder.

Law: that folder is another user's, who may have been taken over and may exchange any name in it at any moment. So the
folder and the segment are opened once each, no link is followed, and what was opened is what is looked at and cut.
"""

import os
from contextlib import suppress
from pathlib import Path

from gateway.audit.reader import UNTRUSTED, end_in, require_segment, segment_names
from gateway.audit.segments import PREPARED


def tidy(folder: Path) -> None:
    """Cut the zeros off the last segment, and remove the prepared one. Torn bytes stay. Raises OSError, which costs
    disk space only."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(PREPARED, dir_fd=opened)
        for segment in segment_names(opened)[-1:]:
            _trim(segment, opened)
    finally:
        os.close(opened)


def _trim(segment: str, folder: int) -> None:
    with os.fdopen(os.open(segment, os.O_RDWR | UNTRUSTED, dir_fd=folder), "rb") as file:
        require_segment(file.fileno(), segment)
        # A second name may be the one by which somebody else knows the file.
        if os.fstat(file.fileno()).st_nlink == 1:
            os.ftruncate(file.fileno(), end_in(file))
