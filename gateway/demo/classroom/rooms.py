"""Who is in a room, and what reaches whom. No I/O: listeners hold queues, the handlers carry them to the wire.

Law: nobody waits for a slow listener. One that falls behind by a whole queue is ended, and may connect again.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["message", "participants", "files", "clock"]

HISTORY = 50
LISTENERS = 200
QUEUE = 100
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    kind: Kind
    value: object
    """What JSON can say."""


class RoomFull(Exception):
    """As many listeners as a room takes."""


class Listener:
    """One open stream and the kinds of events it carries."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self._kinds = kinds
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE)

    def tell(self, event: Event) -> None:
        if event.kind not in self._kinds:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def next(self) -> Event | None:
        """The next event; None: this stream is to end."""
        return await self._queue.get()


class Room:
    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._present: Counter[Person] = Counter()
        self._said: deque[Event] = deque(maxlen=HISTORY)

    @property
    def participants(self) -> list[str]:
        return sorted(person.name for person in self._present)

    @contextlib.contextmanager
    def listen(self, *kinds: Kind) -> Iterator[Listener]:
        """Raises RoomFull. A listener to messages is first told what was said before."""
        if len(self._listeners) >= LISTENERS:
            raise RoomFull
        listener = Listener(frozenset(kinds))
        for event in (*self._said, Event("participants", self.participants)):
            listener.tell(event)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    @contextlib.contextmanager
    def presence(self, person: Person) -> Iterator[None]:
        """One browser of this person is in the room; a person may have several."""
        self._present[person] += 1
        self.tell(Event("participants", self.participants))
        try:
            yield
        finally:
            self._present[person] -= 1
            if not self._present[person]:
                del self._present[person]
            self.tell(Event("participants", self.participants))

    def say(self, person: Person, text: str, at: float) -> None:
        text = text.strip()[:MESSAGE_CHARACTERS]
        if text:
            event = Event("message", {"from": person.name, "id": person.id, "text": text, "at": at})
            self._said.append(event)
            self.tell(event)

    def tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.tell(event)

    def close(self) -> None:
        for listener in self._listeners:
            listener.end()
