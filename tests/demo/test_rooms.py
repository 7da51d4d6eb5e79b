"""Who hears what, without any wire."""

import pytest

from gateway.demo.classroom import rooms
from gateway.demo.classroom.rooms import Event, Person, Room, RoomFull

ADA = Person("usr_ada", "Ada")


async def test_a_slow_listener_is_ended_and_holds_nobody_back() -> None:
    room = Room()
    with room.listen("message") as slow, room.listen("message") as quick:
        for number in range(rooms.QUEUE + 1):
            room.say(ADA, f"{number}", at=0.0)
            heard = await quick.next()
            assert heard is not None
        assert await slow.next() is None


async def test_listeners_hear_the_kinds_they_asked_for() -> None:
    room = Room()
    with room.listen("files") as listener:
        room.say(ADA, "not for you", at=0.0)
        room.tell(Event("files", 1))
        assert await listener.next() == Event("files", 1)


async def test_what_was_said_is_kept_up_to_a_limit() -> None:
    room = Room()
    for number in range(rooms.HISTORY + 10):
        room.say(ADA, f"{number}", at=0.0)
    with room.listen("message") as listener:
        first = await listener.next()
        assert first is not None
        assert first.value == {"from": "Ada", "id": "usr_ada", "text": "10", "at": 0.0}


async def test_long_and_empty_messages() -> None:
    room = Room()
    with room.listen("message") as listener:
        room.say(ADA, " \n ", at=0.0)
        room.say(ADA, "x" * 10_000, at=0.0)
        heard = await listener.next()
        assert heard is not None
        assert isinstance(heard.value, dict)
        assert len(heard.value["text"]) == rooms.MESSAGE_CHARACTERS


async def test_a_full_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "LISTENERS", 1)
    room = Room()
    with room.listen("message"), pytest.raises(RoomFull), room.listen("message"):
        pass
    with room.listen("message"):
        pass
