"""What reaches a witness, and what a witness makes of it; over real TLS."""

import asyncio
import json
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.audit import witness as module
from gateway.audit.known import Known, read_witness
from gateway.audit.witness import Contradicted, FolderWitness, Sealed, Undelivered, Witness, build
from gateway.config.schema import SecretSource, WitnessSection
from gateway.config.values import TlsAddress
from gateway.foundation.errors import GatewayError

from .receivers import Authority, Receiver, https_receiver, syslog_receiver
from .state import Gateway


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_SECONDS", 60.0)


@pytest.fixture
def until_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: a refusal ends the waiting for it."""
    monkeypatch.setattr(module, "REFUSAL_SECONDS", 60.0)


@pytest.fixture
def sealed(gateway: Gateway) -> list[Sealed]:
    """The first three checkpoints of a node."""
    for number in range(3):
        gateway.journal(f"worker-{number}")
    return [Sealed.read(path) for path in sorted((gateway.state_dir / "checkpoints").glob("0*.json"))]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def section(**members: object) -> WitnessSection:
    return WitnessSection.model_construct(**{**WitnessSection(folder=Path("/x")).__dict__, "folder": None, **members})


def to_syslog(receiver: Receiver, ca: Path, **more: object) -> Witness:
    address = TlsAddress("localhost", receiver.port)
    return build(section(syslog=address, ca=ca, **more), "node-a", Path("/"))


def to_https(receiver: Receiver, ca: Path, **more: object) -> Witness:
    return build(section(https=f"https://localhost:{receiver.port}/checkpoints", ca=ca, **more), "node-a", Path("/"))


# Checkpoints


def test_what_is_sent_is_the_file_itself(gateway: Gateway, sealed: list[Sealed]) -> None:
    content = (gateway.state_dir / "checkpoints" / "00000002.json").read_bytes()
    assert sealed[1].content == content
    assert (sealed[1].known.number, sealed[1].known.node) == (2, "node-a")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"number":2,"node":"n","time":"t"}', None])
def test_what_is_no_checkpoint_here_is_not_delivered(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "00000001.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Undelivered):
        Sealed.read(path)


# Syslog


@pytest.mark.requirement("ASVS 16.4.3")
async def test_syslog_gets_number_and_hash_in_one_message(sealed: list[Sealed], authority: Authority) -> None:
    async with syslog_receiver(authority.server()) as receiver:
        witness = to_syslog(receiver, authority.file)
        assert await witness.begin_at(3) == 3
        for each in sealed:
            await witness.deliver(each)
    header, _, told = receiver.messages[1].partition(b" - checkpoint - ")
    assert header == f"<109>1 {sealed[1].time} node-a btb-gateway".encode()
    assert json.loads(told) == {"checkpoint": f"2:{sealed[1].known.hash}", "node": "node-a", "time": sealed[1].time}
    with tempfile.NamedTemporaryFile() as kept:
        kept.write(b"\n".join(receiver.messages))
        kept.flush()
        assert list(read_witness(Path(kept.name))) == [each.known for each in sealed]


@pytest.mark.requirement("ASVS 16.4.3")
async def test_https_gets_the_checkpoint_and_our_token(
    sealed: list[Sealed], authority: Authority, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    async with https_receiver(authority.server()) as receiver:
        witness = to_https(receiver, authority.file, token=SecretSource(file=secret))
        await witness.deliver(sealed[0])
    assert receiver.messages == [sealed[0].content]
    assert receiver.headers[0]["Authorization"] == "Bearer s3cret"
    assert receiver.headers[0]["Content-Type"] == "application/json"


RECEIVERS = [(syslog_receiver, to_syslog), (https_receiver, to_https)]
Pair = tuple[type[AbstractAsyncContextManager[Receiver]], type[Witness]]


@pytest.mark.parametrize("pair", RECEIVERS, ids=["syslog", "https"])
@pytest.mark.requirement("ASVS 12.3.2", "SP 800-207 tenet 5")
async def test_a_server_is_believed_by_its_certificate_only(
    sealed: list[Sealed], authority: Authority, tmp_path: Path, pair: Pair
) -> None:
    receive, to = pair
    stranger = Authority(tmp_path / "stranger")
    async with receive(authority.server()) as receiver:  # type: ignore[call-arg]
        for ca in (stranger.file, None):
            with pytest.raises(Undelivered, match="certificate verify failed"):
                await to(receiver, ca).deliver(sealed[0])  # type: ignore[call-arg]
    async with receive(authority.server("other.example")) as receiver:  # type: ignore[call-arg]
        with pytest.raises(Undelivered, match="certificate"):
            await to(receiver, authority.file).deliver(sealed[0])  # type: ignore[call-arg]
    assert receiver.messages == []


@pytest.mark.parametrize("pair", RECEIVERS, ids=["syslog", "https"])
@pytest.mark.usefixtures("until_refused")
async def test_a_server_that_asks_for_a_certificate_gets_nothing_without(
    sealed: list[Sealed], authority: Authority, pair: Pair
) -> None:
    receive, to = pair
    async with receive(authority.server(asks=True)) as receiver:  # type: ignore[call-arg]
        with pytest.raises(Undelivered):
            await to(receiver, authority.file).deliver(sealed[0])  # type: ignore[call-arg]
    assert receiver.messages == []


@pytest.mark.parametrize("pair", RECEIVERS, ids=["syslog", "https"])
@pytest.mark.requirement("ASVS 12.3.5")
async def test_a_server_that_asks_for_a_certificate_gets_ours(
    sealed: list[Sealed], authority: Authority, tmp_path: Path, pair: Pair
) -> None:
    receive, to = pair
    certificate, private_key = authority.client(tmp_path)
    async with receive(authority.server(asks=True)) as receiver:  # type: ignore[call-arg]
        ours = {"certificate": certificate, "private_key": private_key}
        await to(receiver, authority.file, **ours).deliver(sealed[0])  # type: ignore[call-arg]
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("pair", RECEIVERS, ids=["syslog", "https"])
async def test_a_server_that_is_away_is_told_of(sealed: list[Sealed], authority: Authority, pair: Pair) -> None:
    receive, to = pair
    async with receive(authority.server()) as receiver:  # type: ignore[call-arg]
        witness = to(receiver, authority.file)  # type: ignore[call-arg]
    with pytest.raises(Undelivered, match="localhost"):
        await witness.deliver(sealed[0])


@pytest.mark.parametrize("pair", RECEIVERS, ids=["syslog", "https"])
async def test_without_an_answer_nothing_is_delivered(sealed: list[Sealed], authority: Authority, pair: Pair) -> None:
    receive, to = pair
    async with receive(authority.server()) as receiver:  # type: ignore[call-arg]
        receiver.is_silent = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await to(receiver, authority.file).deliver(sealed[0])  # type: ignore[call-arg]


@pytest.mark.usefixtures("until_refused")
async def test_a_receiver_that_drops_the_connection_has_nothing(sealed: list[Sealed], authority: Authority) -> None:
    async with syslog_receiver(authority.server()) as receiver:
        receiver.is_rude = True
        with pytest.raises(Undelivered):
            await to_syslog(receiver, authority.file).deliver(sealed[0])


@pytest.mark.parametrize(
    ("status", "error"), [(301, Undelivered), (401, Undelivered), (500, Undelivered), (409, Contradicted)]
)
@pytest.mark.requirement("ASVS 15.3.2")
async def test_only_a_yes_counts(
    sealed: list[Sealed], authority: Authority, status: int, error: type[Exception]
) -> None:
    async with https_receiver(authority.server()) as receiver:
        receiver.status = status
        with pytest.raises(Undelivered) as raised:
            await to_https(receiver, authority.file).deliver(sealed[0])
    assert raised.type is error
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("name", ["ca", "certificate", "token"])
def test_what_can_not_be_read_is_told_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    (tmp_path / "token").write_text("a b\n")
    (tmp_path / "token").chmod(0o600)
    given = {
        "ca": {"ca": tmp_path / "none"},
        "certificate": {"certificate": tmp_path / "none", "private_key": tmp_path / "none"},
        "token": {"token": SecretSource(file=tmp_path / "token")},
    }[name]
    with pytest.raises(GatewayError, match=r"audit\.witnesses"):
        build(section(https="https://localhost/", **given), "node-a", tmp_path)


@pytest.mark.requirement("ASVS 12.1.1")
def test_tls_is_of_today() -> None:
    context = module._tls(section())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


# Folders


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A folder on another file system than the state's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def folder(mounted: Path, gateway: Gateway) -> FolderWitness:
    return FolderWitness(mounted, "node-a", gateway.state_dir)


async def test_a_folder_gets_every_checkpoint(folder: FolderWitness, mounted: Path, sealed: list[Sealed]) -> None:
    assert await folder.begin_at(3) == 1
    for each in sealed:
        await folder.deliver(each)
        await folder.deliver(each)
    assert list(read_witness(mounted)) == [each.known for each in sealed]
    assert await folder.begin_at(3) == 3
    assert await folder.begin_at(7) == 3
    assert await folder.begin_at(2) == 2


async def test_what_a_folder_has_is_never_overwritten(
    folder: FolderWitness, mounted: Path, sealed: list[Sealed]
) -> None:
    await folder.deliver(sealed[0])
    other = Sealed(Known(1, "0" * 64, "node-a"), "t", sealed[0].content.replace(b"worker-0", b"worker-9"))
    with pytest.raises(Contradicted, match=r"00000001\.json is another checkpoint"):
        await folder.deliver(other)
    longer = mounted / "node-a" / "00000002.json"
    longer.write_bytes(sealed[1].content + b"x")
    with pytest.raises(Contradicted):
        await folder.deliver(sealed[1])
    assert (mounted / "node-a" / "00000001.json").read_bytes() == sealed[0].content


async def test_what_a_crash_cut_short_is_completed(folder: FolderWitness, mounted: Path, sealed: list[Sealed]) -> None:
    (mounted / "node-a").mkdir()
    for length in (0, 1, 100):
        (mounted / "node-a" / "00000001.json").write_bytes(sealed[0].content[:length])
        await folder.deliver(sealed[0])
        assert (mounted / "node-a" / "00000001.json").read_bytes() == sealed[0].content


async def test_a_folder_that_is_not_mounted_is_not_written(sealed: list[Sealed], tmp_path: Path) -> None:
    mount = tmp_path / "mnt"
    mount.mkdir()
    witness = FolderWitness(mount, "node-a", tmp_path)
    for attempt in (witness.begin_at(1), witness.deliver(sealed[0])):
        with pytest.raises(Undelivered, match="is it mounted"):
            await attempt
    assert list(mount.iterdir()) == []
    with pytest.raises(Undelivered, match="can't be written"):
        await FolderWitness(tmp_path / "nowhere", "node-a", tmp_path).deliver(sealed[0])


async def test_a_mount_that_hangs_holds_up_nothing(mounted: Path, sealed: list[Sealed], tmp_path: Path) -> None:
    (mounted / "node-a").mkdir()
    pipe = mounted / "node-a" / "00000001.json"
    os.mkfifo(pipe)
    witness = FolderWitness(mounted, "node-a", tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await witness.deliver(sealed[0])
    with pytest.raises(Undelivered, match="does not answer"):
        await witness.deliver(sealed[1])
    os.close(os.open(pipe, os.O_RDWR))
