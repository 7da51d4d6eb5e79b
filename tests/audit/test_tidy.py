"""What a dead process left is given back, and nothing else is touched: its folder belongs to whoever took it over."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .state import Gateway, die

SEGMENT = "00000001.jsonl"
STORE = b"all that the gateway knows" * 4000


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    for source, target in ((one, aside), (other, one), (aside, other)):
        source.rename(target)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    path.write_bytes(STORE)
    return path


@pytest.fixture
def folder(gateway: Gateway) -> Path:
    """Of a chain whose process has died."""
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    die(journal)
    return gateway.state_dir / "journal" / journal.opening.chain


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("after", range(4))
def test_a_segment_that_is_exchanged_meanwhile_cuts_no_other_file(
    gateway: Gateway,
    folder: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    plant: Callable[[Path, Path], None],
) -> None:
    """Whatever the number of times that the name is opened: it leads to the store for one of them."""
    followed = gateway.keeper.follow()
    plant(folder / "other", store)
    open_really, opened = os.open, 0

    def open_while_it_changes(path: str | Path, *rest: int, dir_fd: int | None = None) -> int:
        nonlocal opened
        if os.path.basename(path) == SEGMENT:
            if opened in (after, after + 1):
                exchange(folder / SEGMENT, folder / "other")
            opened += 1
        return open_really(path, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_while_it_changes)
    assert gateway.keeper.sign(followed) is not None
    assert opened > 0
    assert store.read_bytes() == STORE


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_second_name_of_another_file_is_not_cut(
    gateway: Gateway, folder: Path, store: Path, plant: Callable[[Path, Path], None]
) -> None:
    followed = gateway.keeper.follow()
    store.write_bytes(STORE + bytes(5000))
    (folder / SEGMENT).unlink()
    plant(folder / SEGMENT, store)
    assert gateway.keeper.sign(followed) is not None
    assert store.read_bytes() == STORE + bytes(5000)


def test_a_folder_that_leads_elsewhere_is_left_alone(gateway: Gateway, folder: Path, tmp_path: Path) -> None:
    followed = gateway.keeper.follow()
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "prepared").touch()
    folder.symlink_to(elsewhere)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    assert gateway.keeper.sign(followed) is not None
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


@pytest.mark.parametrize("plant", [os.mkfifo, Path.mkdir, Path.unlink])
def test_what_is_no_segment_holds_up_nobody(gateway: Gateway, folder: Path, plant: Callable[[Path], None]) -> None:
    followed = gateway.keeper.follow()
    plant(folder / "00000002.jsonl" if plant is not Path.unlink else folder / SEGMENT)
    assert gateway.keeper.sign(followed) is not None
    assert not (folder / "prepared").exists()


def test_torn_bytes_stay(gateway: Gateway, folder: Path) -> None:
    segment = folder / SEGMENT
    content = segment.read_bytes().rstrip(b"\0") + b"torn"
    segment.write_bytes(content + bytes(5000))
    assert gateway.sign() is not None
    assert segment.read_bytes() == content
