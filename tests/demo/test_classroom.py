"""The streams and files of *classroom*, with several people in a room."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, WSMsgType, WSServerHandshakeError
from yarl import URL

from gateway.demo.classroom import app as classroom_app
from gateway.demo.classroom import shelf
from gateway.demo.classroom.app import application
from gateway.foundation.clock import SystemClock


@pytest.fixture
async def classroom(browse: Callable[..., Any], tmp_path: Path) -> Any:
    folder = tmp_path / "files"
    folder.mkdir()
    return await browse(lambda verifier: application(verifier, SystemClock(), folder), "classroom")


@pytest.fixture
def as_(signer: Any) -> Callable[..., dict[str, str]]:
    return lambda name="Ada", tenant="acme", host=None, **claims: {
        "X-Gateway-Assertion": signer.assertion("classroom", tenant, name=name, sub=f"usr_{name}", **claims),
        "X-Forwarded-Host": host or f"{tenant}.classroom.btb.localhost:8443",
    }


def a_file(content: bytes, name: str = "notes.txt") -> FormData:
    form = FormData(quote_fields=False)  # As browsers do: the name in UTF-8.
    form.add_field("file", content, filename=name, content_type="text/plain")
    return form


def leftovers(folder: Path) -> list[int]:
    """The sizes of all files under the folder, the smallest first."""
    return sorted(file.stat().st_size for file in folder.rglob("*") if file.is_file())


async def test_the_room_of_the_host(classroom: Any, as_: Any) -> None:
    page = await (await classroom.get("/", headers=as_())).text()
    assert "Acme’s room" in page
    assert "<script>" not in page


@pytest.mark.parametrize("path", ["/", "/live", "/events", "/files", "/files/x"])
async def test_without_the_gateway_there_is_nothing(classroom: Any, path: str) -> None:
    assert (await classroom.get(path)).status == 401


@pytest.mark.parametrize(
    "host",
    [
        "globex.classroom.btb.localhost",
        "classroom.btb.localhost",
        "acme.evil.example",
        "acme.x.classroom.btb.localhost",
        "acme.classroom.btb.localhost, globex.classroom.btb.localhost",
        "",
    ],
)
async def test_an_assertion_for_one_room_opens_no_other(classroom: Any, as_: Any, host: str) -> None:
    headers = as_() | {"X-Forwarded-Host": host}
    assert (await classroom.get("/", headers=headers)).status == 401
    with pytest.raises(WSServerHandshakeError):
        await classroom.ws_connect("/live", headers=headers)


async def test_two_people_talk_and_another_customer_hears_nothing(classroom: Any, as_: Any) -> None:
    ada = await classroom.ws_connect("/live", headers=as_("Ada"))
    bob = await classroom.ws_connect("/live", headers=as_("Bob"))
    eve = await classroom.ws_connect("/live", headers=as_("Eve", tenant="globex"))
    await ada.send_str("good morning")
    assert [(await who.receive_json(timeout=2))["text"] for who in (ada, bob)] == ["good morning"] * 2
    await bob.send_str("  and to you \n")
    heard = await ada.receive_json(timeout=2)
    assert (heard["from"], heard["text"]) == ("Bob", "and to you")
    await eve.send_str("anybody?")
    assert (await eve.receive_json(timeout=2))["text"] == "anybody?"


async def test_who_comes_late_hears_what_was_said(classroom: Any, as_: Any) -> None:
    ada = await classroom.ws_connect("/live", headers=as_("Ada"))
    await ada.send_str("first")
    await ada.receive_json(timeout=2)
    bob = await classroom.ws_connect("/live", headers=as_("Bob"))
    assert (await bob.receive_json(timeout=2))["text"] == "first"


async def test_a_frame_that_is_too_large_ends_the_connection(classroom: Any, as_: Any) -> None:
    ada = await classroom.ws_connect("/live", headers=as_())
    await ada.send_str("x" * (classroom_app.FRAME_BYTES + 1))
    assert (await ada.receive(timeout=2)).type is WSMsgType.CLOSE
    assert ada.close_code == 1009


async def test_the_live_address_is_for_web_sockets(classroom: Any, as_: Any) -> None:
    assert (await classroom.get("/live", headers=as_())).status == 426


async def test_stopping_says_good_bye(classroom: Any, as_: Any) -> None:
    ada = await classroom.ws_connect("/live", headers=as_())
    closing = asyncio.create_task(classroom.server.close())
    assert (await ada.receive(timeout=2)).type is WSMsgType.CLOSE
    assert ada.close_code == 1001
    await closing


async def next_event(stream: Any, kind: str) -> Any:
    async with asyncio.timeout(3):
        while True:
            event = (await stream.content.readuntil(b"\n\n")).decode()
            name, _, value = event.partition("\n")
            if name == f"event: {kind}":
                return json.loads(value.removeprefix("data: "))


async def test_the_event_stream_tells_the_time_and_who_is_here(classroom: Any, as_: Any) -> None:
    async with classroom.get("/events", headers=as_("Ada")) as stream:
        assert stream.content_type == "text/event-stream"
        assert await next_event(stream, "participants") == []
        bob = await classroom.ws_connect("/live", headers=as_("Bob"))
        assert await next_event(stream, "participants") == ["Bob"]
        again = await classroom.ws_connect("/live", headers=as_("Bob"))
        assert await next_event(stream, "participants") == ["Bob"]
        assert await next_event(stream, "clock") > 1e9
        await bob.close()
        assert await next_event(stream, "participants") == ["Bob"]
        await again.close()
        assert await next_event(stream, "participants") == []


async def test_a_file_there_and_back(classroom: Any, as_: Any) -> None:
    content = bytes(range(256)) * 3000
    async with classroom.get("/events", headers=as_()) as stream:
        answer = await classroom.post(
            "/files", data=a_file(content, "Notizen für später.txt"), headers=as_(), allow_redirects=False
        )
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert await next_event(stream, "files") == 1
    listed = (await (await classroom.get("/files", headers=as_())).json())["files"]
    assert [(file["name"], file["bytes"], file["by"]) for file in listed] == [
        ("Notizen für später.txt", len(content), "Ada")
    ]
    back = await classroom.get("/files/Notizen für später.txt", headers=as_())
    assert await back.read() == content
    assert back.headers["Content-Type"] == "application/octet-stream"
    assert back.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''Notizen%20f%C3%BCr")
    assert back.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_file_of_one_customer_is_not_there_for_another(classroom: Any, as_: Any) -> None:
    await classroom.post("/files", data=a_file(b"secret"), headers=as_())
    assert (await classroom.get("/files/notes.txt", headers=as_(tenant="globex"))).status == 404
    assert (await (await classroom.get("/files", headers=as_(tenant="globex"))).json()) == {"files": []}


TRAVERSAL = [
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "..\\x",
    "C:x",
    "a/b",
    ".",
    "..",
    ".hidden",
    "a\x01b",
    "invoice\u202etxt.exe",
    'a"b',
    "x" * 121,
]


@pytest.mark.parametrize("name", TRAVERSAL)
async def test_file_names_that_are_refused(classroom: Any, as_: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(shelf.Refused):
        shelf.checked_name(name)
    body = (
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''"
        + "".join(f"%{byte:02X}" for byte in name.encode())
        + "\r\n\r\ncontent\r\n--x--\r\n"
    ).encode()
    headers = as_() | {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await classroom.post("/files", data=body, headers=headers)
    assert answer.status == 400
    assert leftovers(tmp_path / "files") == []


@pytest.mark.parametrize("path", ["..%2F..%2Fca.pem", "%2E%2E%2Fca.pem", "..%5Cca.pem", "%2e%2e", "0"])
async def test_downloads_reach_listed_files_only(classroom: Any, as_: Any, path: str) -> None:
    await classroom.post("/files", data=a_file(b"x"), headers=as_())
    url = URL(f"{str(classroom.make_url('/')).rstrip('/')}/files/{path}", encoded=True)
    assert (await classroom.session.get(url, headers=as_())).status == 404


async def test_a_name_is_taken_once(classroom: Any, as_: Any) -> None:
    await classroom.post("/files", data=a_file(b"one"), headers=as_())
    assert (await classroom.post("/files", data=a_file(b"two"), headers=as_())).status == 409
    assert await (await classroom.get("/files/notes.txt", headers=as_())).read() == b"one"


async def test_files_and_shelves_have_an_end(
    classroom: Any, as_: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shelf, "FILE_BYTES", 100_000)
    monkeypatch.setattr(shelf, "SHELF_BYTES", 150_000)
    monkeypatch.setattr(shelf, "SHELF_FILES", 2)

    async def upload(size: int, name: str) -> int:
        return int((await classroom.post("/files", data=a_file(b"x" * size, name), headers=as_())).status)

    assert await upload(100_001, "large") == 413
    assert await upload(100_000, "first") == 200
    assert await upload(50_001, "second") == 507
    assert await upload(50_000, "second") == 200
    assert await upload(0, "third") == 507
    assert leftovers(tmp_path / "files") == [50_000, 100_000]


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"x", {"Content-Type": "application/json"}, 415),
        (b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nc\r\n--x--\r\n',
            {"Content-Type": "multipart/form-data; boundary=x"},
            400,
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nc\r\n--x--\r\n',
            {"Content-Type": "multipart/form-data; boundary=x"},
            400,
        ),
    ],
)
async def test_forms_without_a_file(classroom: Any, as_: Any, data: bytes, headers: Any, status: int) -> None:
    assert (await classroom.post("/files", data=data, headers=as_() | headers)).status == status
