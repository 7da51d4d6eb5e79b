"""What witnesses keep is read in whatever wrapping their lines have."""

import json
from pathlib import Path

import pytest

from gateway.audit.checkpoint import file_hash
from gateway.audit.known import Known, note, read_witness
from gateway.foundation.errors import GatewayError

from .state import Gateway

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", ["", "x", "-1", "1:abc", "١", "1.5", ":", "1:" + "x" * 64, "1" * 400, "1\n"])
def test_what_is_no_checkpoint_s_name_is_refused(text: str) -> None:
    with pytest.raises(GatewayError, match="NUMBER:HASH"):
        Known.parse(text)


def test_a_checkpoint_s_name_is_a_number_and_perhaps_a_hash() -> None:
    assert Known.parse("41") == Known(41)
    assert Known.parse(f"41:{HASH.upper()}") == Known(41, HASH)


@pytest.mark.parametrize(
    "wrapping",
    ["%s\n", "%s", "<110>1 2027-01-15T08:00:00Z node-a btb-gateway - - - %s\n", "Jan 15 08:00:00 node-a x: %s\r\n"],
)
def test_notes_are_read_from_lines(tmp_path: Path, wrapping: str) -> None:
    path = tmp_path / "lines"
    known = [Known(7, HASH, "node-a"), Known(8, HASH, "node-b")]
    path.write_text("".join(["something else\n", *(wrapping % note(each, "t") for each in known)]), newline="")
    assert list(read_witness(path)) == known
    assert json.loads(note(known[0], "t")) == {"checkpoint": f"7:{HASH}", "node": "node-a", "time": "t"}


def test_whole_checkpoints_are_read_from_files_lines_and_folders(gateway: Gateway, tmp_path: Path) -> None:
    for number in range(3):
        gateway.journal(f"worker-{number}")
    folder = gateway.state_dir / "checkpoints"
    contents = [path.read_bytes() for path in sorted(folder.glob("0*.json"))]
    expected = [Known(number, file_hash(content), "node-a") for number, content in enumerate(contents, 1)]
    (tmp_path / "lines").write_bytes(b"".join(contents))
    (tmp_path / "without-line-end").write_bytes(contents[0][:-1])
    (tmp_path / "kept" / "node-a").mkdir(parents=True)
    for number, content in enumerate(contents, 1):
        (tmp_path / "kept" / "node-a" / f"{number:08d}.json").write_bytes(content)
    assert list(read_witness(folder)) == expected
    assert list(read_witness(tmp_path / "kept")) == expected
    assert list(read_witness(tmp_path / "lines")) == expected
    assert list(read_witness(tmp_path / "without-line-end")) == expected[:1]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\n", b"[" * 100_000, b'{"number":"x","node":"n"}\n', b'{"number":1}\n', b"null\n7\n"]
)
def test_a_witness_without_a_checkpoint_does_not_agree(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lines").write_bytes(content)
    with pytest.raises(GatewayError, match="holds no checkpoint"):
        list(read_witness(tmp_path / "lines"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GatewayError, match="holds no checkpoint"):
        list(read_witness(tmp_path / "empty"))
