"""Only whole lines are records, wherever reading stops and goes on."""

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.chain import MAX_LINE
from gateway.audit.reader import LARGEST_SEGMENT, ChainReader, end_of_content


def chain(folder: Path, *segments: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(segments, start=1):
        (folder / f"{number:08d}.jsonl").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("segments", "lines", "torn"),
    [
        ([], [], None),
        ([b""], [], None),
        ([bytes(5000)], [], None),
        ([b"a\nb\n"], [b"a\n", b"b\n"], None),
        ([b"a\nb\n" + bytes(5000)], [b"a\n", b"b\n"], None),
        ([b"a\n" + bytes(5000), b"b\n"], [b"a\n", b"b\n"], None),
        ([b"a\n", b"", b"b\n"], [b"a\n", b"b\n"], None),
        ([b"a\nb"], [b"a\n"], (2, 2, 1)),
        ([b"a\nb" + bytes(9)], [b"a\n"], (2, 2, 1)),
        ([b"a\nb", b"c\n"], [b"a\n"], (2, 2, 1)),
        ([b"a\rb\nc\x0bd\n"], [b"a\rb\n", b"c\x0bd\n"], None),
        ([b"a\n\0\0\0b\n"], [b"a\n"], (2, 2, 5)),
        ([b"a\nb\0\0c\nd\n"], [b"a\n"], (2, 2, 7)),
        ([b"a\n" + b"x" * MAX_LINE + b"\nb\n"], [b"a\n"], (2, 2, MAX_LINE + 3)),
    ],
)
def test_reading_ends_at_what_is_no_line(
    tmp_path: Path, segments: list[bytes], lines: list[bytes], torn: tuple[int, int, int] | None
) -> None:
    reader = ChainReader(chain(tmp_path / "c", *segments))
    assert list(reader.lines()) == lines
    found = reader.torn()
    assert (found and (found.line, found.offset, found.bytes)) == torn


@pytest.mark.parametrize("size", [1, 7, 8, 30])
def test_a_piece_ends_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("gateway.audit.reader._PIECE", size)
    segments = [[b"line %d\n" % number for number in numbers] for numbers in (range(30), range(30, 50))]
    reader = ChainReader(chain(tmp_path / "c", b"".join(segments[0]), b"".join(segments[1]) + b"torn" + bytes(99)))
    places = []
    for lines in reader.pieces():
        places += [(reader.segment.name, reader.place_in(lines, index), line) for index, line in enumerate(lines)]
    assert places == [
        (f"{number:08d}.jsonl", f"{number:08d}.jsonl:{place}", line)
        for number, lines in enumerate(segments, start=1)
        for place, line in enumerate(lines, start=1)
    ]
    found = reader.torn()
    assert found is not None
    assert (found.line, found.offset, found.bytes) == (21, len(b"".join(segments[1])), 4)


def test_the_longest_line_is_read(tmp_path: Path) -> None:
    line = b"x" * (MAX_LINE - 1) + b"\n"
    assert list(ChainReader(chain(tmp_path / "c", line)).lines()) == [line]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_reading_goes_on_where_it_stopped(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    content = b"".join(b"line %d\n" % number for number in range(40))
    folder = tmp_path_factory.mktemp("c")
    reader, found, written = ChainReader(folder), [], 0
    for step in steps:
        written += step
        chain(folder, content[:written] + bytes(64))
        found += list(reader.lines())
    assert b"".join(found) == content[: content[:written].rfind(b"\n") + 1]


def test_a_segment_that_is_begun_while_reading_is_read_too(tmp_path: Path) -> None:
    folder = chain(tmp_path / "c", b"a\n")
    reader = ChainReader(folder)
    assert list(reader.lines()) == [b"a\n"]
    chain(folder, b"a\nb\n", b"c\n")
    assert list(reader.lines()) == [b"b\n", b"c\n"]
    assert reader.place == "00000002.jsonl:1"
    assert "00000002.jsonl:1" in repr(reader)
    assert reader.stray() is None
    chain(folder, b"", b"", b"", b"d\n")
    (folder / "00000003.jsonl").unlink()
    assert reader.stray() == "00000004.jsonl"


def test_a_writer_that_rotates_while_the_end_is_looked_at_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = chain(tmp_path / "c", b"a\n")
    exists = Path.exists

    def exists_after_the_writer_went_on(path: Path) -> bool:
        if path.name == "00000002.jsonl":
            chain(folder, b"a\nb\n", b"c\n")
        return exists(path)

    monkeypatch.setattr(Path, "exists", exists_after_the_writer_went_on)
    assert list(ChainReader(folder).lines()) == [b"a\n", b"b\n", b"c\n"]


def test_the_end_of_content_is_found_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert end_of_content(path) == 0
    for content, end in ((b"", 0), (bytes(10), 0), (b"x" + bytes(1 << 19), 1), (bytes(1 << 19) + b"x", (1 << 19) + 1)):
        path.write_bytes(content)
        assert end_of_content(path) == end


def pipe(path: Path) -> None:
    os.mkfifo(path)


def hole(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST_SEGMENT + 1)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("plant", [pipe, hole, link, Path.mkdir])
def test_what_is_no_segment_keeps_nobody_waiting(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    # A worker that was taken over could otherwise stop the keeper, which reads every chain on one thread.
    folder = chain(tmp_path, b"a\n")
    plant(folder / "00000002.jsonl")
    reader, read = ChainReader(folder), []
    with pytest.raises(OSError):  # noqa: PT011 - which one, only the kernel knows.
        read.extend(reader.lines())
    with pytest.raises(OSError):  # noqa: PT011 - as above.
        end_of_content(folder / "00000002.jsonl")


def test_a_line_without_an_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece more would cost as much as all before it."""
    read = 0

    class Counted(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            content = super().read(size)
            read += len(content)
            return content

    monkeypatch.setattr("gateway.audit.reader.opened", Counted)
    reader = ChainReader(chain(tmp_path / "c", b"a\n" + b"x" * (8 * MAX_LINE)))
    assert list(reader.lines()) == [b"a\n"]
    assert MAX_LINE < read < 3 * MAX_LINE
