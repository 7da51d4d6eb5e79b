"""The pages and streams of *classroom*."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from aiohttp import BodyPartReader, MultipartReader, WSCloseCode, WSMsgType, web

from gateway.demo.assertion import Verifier
from gateway.demo.classroom.rooms import Event, Listener, Person, Room, RoomFull
from gateway.demo.classroom.shelf import Refused, Shelf
from gateway.demo.web.site import VISITOR, Site
from gateway.foundation.clock import Clock

NAME = "classroom"
FRAME_BYTES = 4096
PART_BYTES = 64 * 1024
GOODBYE_SECONDS = 2.0
_HOST = re.compile(r"([a-z0-9-]{1,63})\.classroom\.[a-z0-9.-]+(?::[0-9]+)?")


def application(verifier: Verifier, clock: Clock, folder: Path) -> web.Application:
    """`folder` is empty and goes away with the application: the files of the rooms lie in it."""
    site = Site(NAME, "Classroom", Path(__file__).parent, clock, frozenset(), _tenant_of)
    handlers = Handlers(site, folder)
    app = site.application(verifier)
    app.add_routes(
        [
            web.get("/", handlers.room),
            web.get("/live", handlers.live),
            web.get("/events", handlers.events),
            web.get("/files", handlers.files),
            web.post("/files", handlers.upload),
            web.get("/files/{name}", handlers.download),
        ]
    )
    app.on_shutdown.append(handlers.close)
    return app


def _tenant_of(request: web.Request) -> str | None:
    """The gateway says which host the visitor asked for, and replaces whatever a client says under this name."""
    matched = _HOST.fullmatch(request.headers.get("X-Forwarded-Host", request.host).lower())
    return None if matched is None else matched[1]


class Handlers:
    def __init__(self, site: Site, folder: Path) -> None:
        self._pages, self._clock, self._folder = site.pages(), site.clock, folder
        self._rooms: dict[str, Room] = {}
        self._shelves: dict[str, Shelf] = {}

    async def room(self, request: web.Request) -> web.Response:
        room, shelf = self._of(request)
        return self._pages.page(request, "room.html", participants=room.participants, files=shelf.files)

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        room, _ = self._of(request)
        person = Person(request[VISITOR].id, request[VISITOR].name)
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES, heartbeat=20)
        if not socket.can_prepare(request):
            raise web.HTTPUpgradeRequired(text="This address is for a WebSocket.")
        try:
            with room.listen("message") as listener, room.presence(person):
                await socket.prepare(request)
                await self._converse(socket, listener, room, person)
        except RoomFull:
            raise web.HTTPServiceUnavailable(text="The room is full.") from None
        return socket

    async def _converse(self, socket: web.WebSocketResponse, listener: Listener, room: Room, person: Person) -> None:
        writer = asyncio.create_task(_write(socket, listener))
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    room.say(person, frame.data, self._clock.now())
        finally:
            listener.end()
            await asyncio.wait([writer], timeout=GOODBYE_SECONDS)
            writer.cancel()

    async def events(self, request: web.Request) -> web.StreamResponse:
        room, _ = self._of(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        try:
            with room.listen("participants", "files") as listener:
                await response.prepare(request)
                await self._narrate(response, listener)
        except RoomFull:
            raise web.HTTPServiceUnavailable(text="The room is full.") from None
        except ConnectionError:
            pass  # The browser left: the usual end of an event stream.
        return response

    async def _narrate(self, response: web.StreamResponse, listener: Listener) -> None:
        """What happens in the room as it happens, and the time at each full second."""
        while True:
            try:
                async with asyncio.timeout(1 - self._clock.now() % 1):
                    event = await listener.next()
            except TimeoutError:
                event = Event("clock", self._clock.now())
            if event is None:
                return
            # Outside of the timeout: a browser that reads slowly holds its own stream back, and no other.
            await response.write(f"event: {event.kind}\ndata: {json.dumps(event.value)}\n\n".encode())

    async def files(self, request: web.Request) -> web.Response:
        _, shelf = self._of(request)
        answer = {"files": [file.as_json() for file in shelf.files]}
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    async def upload(self, request: web.Request) -> web.Response:
        room, shelf = self._of(request)
        try:
            part = await _file_of(request)
            await shelf.store(part.filename or "", _parts(part), request[VISITOR].name, self._clock.now())
        except Refused as refused:
            return self._pages.message(request, refused.status, "The file was not taken", str(refused))
        room.tell(Event("files", len(shelf.files)))
        return web.Response(status=303, headers={"Location": "/"})

    async def download(self, request: web.Request) -> web.StreamResponse:
        _, shelf = self._of(request)
        file = shelf.find(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound(text="There is no such file.")
        headers = {
            # Never shown in our origin, always saved: what a visitor uploaded could be a page with a script.
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
            "Cache-Control": "no-store",
        }
        return web.FileResponse(file.path, headers=headers)

    async def close(self, _app: web.Application) -> None:
        for room in self._rooms.values():
            room.close()

    def _of(self, request: web.Request) -> tuple[Room, Shelf]:
        """Made at the first visit. The gate saw the tenant in a signed assertion: strangers can't make rooms."""
        tenant = request[VISITOR].tenant
        if tenant is None:
            raise web.HTTPNotFound(text="The address names no customer.")
        if tenant not in self._rooms:
            self._rooms[tenant], self._shelves[tenant] = Room(), Shelf(self._folder / tenant)
        return self._rooms[tenant], self._shelves[tenant]


async def _write(socket: web.WebSocketResponse, listener: Listener) -> None:
    with contextlib.suppress(ConnectionError):  # The browser left: the reading side sees it too, and ends.
        while (event := await listener.next()) is not None:
            await socket.send_str(json.dumps(event.value))
        await socket.close(code=WSCloseCode.GOING_AWAY)


async def _file_of(request: web.Request) -> BodyPartReader:
    if request.content_type != "multipart/form-data":
        raise Refused(415, "Send a form with a file.")
    reader: MultipartReader = await request.multipart()
    part = await reader.next()
    if not isinstance(part, BodyPartReader) or part.name != "file":
        raise Refused(400, "The form has no file.")
    return part


async def _parts(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(PART_BYTES):
        yield chunk
