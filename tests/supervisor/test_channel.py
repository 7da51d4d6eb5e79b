import asyncio
import json
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.foundation.errors import GatewayError, Unavailable
from gateway.supervisor.channel import ChannelClosed, ChildEnd, Decoder, MasterEnd, encode

MESSAGES = [
    {"kind": "ready"},
    {"kind": "totals", "totals": {"gateway_connections": {"": [1.0]}}},
    {"kind": "ask", "to": "keeper", "id": 1, "what": "open-chain", "arguments": {"text": "ä\n\0😀"}},
    {"kind": "start", "policy_text": "x" * 100_000},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MANY = st.lists(
    st.dictionaries(st.text(min_size=1), JSON, max_size=3).map(lambda each: each | {"kind": "x"}), max_size=4
)


def framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


HOSTILE = {
    "a length beyond all messages": struct.pack(">I", (64 << 20) + 1),
    "the largest length": b"\xff\xff\xff\xff",
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "nothing in it": framed(b""),
    "no json": framed(b"nonsense"),
    "cut json": framed(b'{"kind": "ready"'),
    "two values": framed(b'{"kind": "ready"}{}'),
    "no utf-8": framed(b'{"kind": "\xff"}'),
    "a list": framed(b"[]"),
    "a number": framed(b"1"),
    "null": framed(b"null"),
    "no kind": framed(b"{}"),
    "a kind that is no word": framed(b'{"kind": ["ready"]}'),
    "a kind that is null": framed(b'{"kind": null}'),
    "deeper than anybody reads": framed(b'{"kind": "x", "v": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "digits without end": framed(b'{"kind": "x", "v": ' + b"9" * 10_000 + b"}"),
}


@pytest.fixture
def pipe():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    for each in (ours, theirs):
        each.close()


@pytest.fixture
def master(pipe):
    return MasterEnd(pipe[0])


@pytest.fixture
async def child(pipe):
    end = await ChildEnd.open(pipe[1].detach())
    yield end
    end._writer.close()


def read_all(end):
    """What a peer has sent, one socket's buffer after another."""
    messages = []
    while more := end.receive():
        messages += more
    return messages


# Bytes and messages.


@settings(max_examples=100, deadline=None)
@given(MANY, st.lists(st.integers(1, 40)))
def test_messages_come_out_as_they_went_in_over_any_split(messages, sizes):
    data, decoder, received = b"".join(map(encode, messages)), Decoder(), []
    for size in sizes:
        received += decoder.feed(data[:size])
        data = data[size:]
    received += decoder.feed(data)
    assert received == messages


def test_a_message_is_there_with_its_last_byte():
    decoder = Decoder()
    data = encode(MESSAGES[2])
    assert [decoder.feed(data[index : index + 1]) for index in range(len(data) - 1)] == [[]] * (len(data) - 1)
    assert decoder.feed(data[-1:]) == [MESSAGES[2]]


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_closes_the_channel(hostile):
    with pytest.raises(ChannelClosed):
        Decoder().feed(hostile)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_the_master_takes_who_sends_it_for_dead(master, pipe, hostile):
    pipe[1].setblocking(False)
    sent = 0
    with pytest.raises(ChannelClosed):  # noqa: PT012 - until the last byte.
        while sent < len(hostile):
            sent += pipe[1].send(hostile[sent:])
            master.receive()


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_a_child_takes_it_for_the_end_of_the_master(child, pipe, hostile):
    taken = []
    pipe[0].setblocking(False)
    running = asyncio.create_task(child.run(refuse, lambda message: note(taken, message)))
    await asyncio.get_running_loop().sock_sendall(pipe[0], hostile)
    await asyncio.wait_for(running, 5)
    assert taken == []


# The master's side.


def test_messages_go_both_ways(master, pipe):
    other = MasterEnd(pipe[1])
    for message in MESSAGES:
        master.send(message)
        received = []
        while not received:
            received = other.receive()
            master.flush()
        assert received == [message]
    other.send(MESSAGES[0])
    assert master.receive() == [MESSAGES[0]]
    assert master.receive() == []


def test_the_master_never_waits_for_a_child_that_does_not_read(master, pipe):
    # A socket that blocked would hang here: nobody reads while far more than it holds is sent.
    for _ in range(100):
        master.send(MESSAGES[3])
    assert master.has_outgoing
    other, received = MasterEnd(pipe[1]), []
    while len(received) < 100:
        received += other.receive()
        master.flush()
    assert received == [MESSAGES[3]] * 100
    assert not master.has_outgoing


def test_the_end_of_the_other_side_is_told_and_sending_to_it_is_no_fault(master, pipe):
    pipe[1].sendall(encode(MESSAGES[0]))
    pipe[1].close()
    assert master.receive() == [MESSAGES[0]]
    with pytest.raises(ChannelClosed):
        master.receive()
    master.send(MESSAGES[1])
    master.flush()


def test_half_a_message_and_then_the_end(master, pipe):
    pipe[1].sendall(encode(MESSAGES[2])[:-1])
    pipe[1].close()
    assert master.receive() == []
    with pytest.raises(ChannelClosed):
        master.receive()


def test_a_reset_is_an_end(master, pipe):
    # What was sent to it is unread when it closes: the kernel answers with a reset instead of an end of file.
    master.send(MESSAGES[0])
    pipe[1].close()
    with pytest.raises(ChannelClosed):
        master.receive()


def test_a_closed_channel_has_no_descriptor(master):
    assert master.fileno() >= 0
    master.close()
    assert master.fileno() == -1


# A child's side.


async def refuse(what, arguments):
    raise GatewayError(f"{what} is refused")


async def note(taken, message):
    taken.append(message)


async def until(condition):
    """Let everything run that can run."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to be")


class Wire:
    """A child that runs, and the master's end of its channel."""

    def __init__(self, child, master):
        self.child, self.master, self.taken, self.received = child, master, [], []
        self.handler = refuse
        self.running = asyncio.create_task(
            child.run(lambda what, arguments: self.handler(what, arguments), lambda message: note(self.taken, message))
        )

    async def heard(self):
        """The next message from the child."""

        def look():
            self.received += self.master.receive()
            return self.received

        await until(look)
        return self.received.pop(0)


@pytest.fixture
async def wire(child, master):
    wire = Wire(child, master)
    yield wire
    wire.running.cancel()
    await asyncio.gather(wire.running, return_exceptions=True)


async def test_a_childs_messages_reach_the_master(wire):
    wire.child.send("ready")
    wire.child.send("totals", totals={})
    await wire.child.flush()
    assert [await wire.heard(), await wire.heard()] == [{"kind": "ready"}, {"kind": "totals", "totals": {}}]


async def test_what_is_neither_question_nor_answer_is_taken_in_order(wire):
    for message in MESSAGES[:2] + MESSAGES[3:]:
        wire.master.send(message)
    await until(lambda: wire.master.flush() or len(wire.taken) == 3)
    assert wire.taken == MESSAGES[:2] + MESSAGES[3:]


async def test_a_question_is_answered(wire):
    asking = asyncio.create_task(wire.child.ask("supervisor", "status", detail=7))
    question = await wire.heard()
    assert question == {
        "kind": "ask", "to": "supervisor", "id": question["id"], "what": "status", "arguments": {"detail": 7},
    }  # fmt: skip
    wire.master.send({"kind": "answer", "id": question["id"], "result": [1], "error": None})
    assert await asking == [1]


async def test_answers_find_their_questions_in_any_order(wire):
    asking = [asyncio.create_task(wire.child.ask("keeper", "double", number=number)) for number in range(5)]
    questions = [await wire.heard() for _ in asking]
    for question in reversed(questions):
        result = 2 * question["arguments"]["number"]
        wire.master.send({"kind": "answer", "id": question["id"], "result": result, "error": None})
    assert await asyncio.gather(*asking) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("unavailable", "kind"), [(True, Unavailable), (False, GatewayError)])
async def test_a_refusal_comes_in_its_own_words(wire, unavailable, kind):
    asking = asyncio.create_task(wire.child.ask("portal", "x"))
    question = await wire.heard()
    answer = {"kind": "answer", "id": question["id"], "result": None, "error": "why not", "unavailable": unavailable}
    wire.master.send(answer)
    with pytest.raises(kind, match=r"^why not$") as refused:
        await asking
    assert isinstance(refused.value, Unavailable) == unavailable


async def test_who_gets_no_answer_in_time_is_told_so_and_a_late_one_is_nobodys(wire):
    with pytest.raises(Unavailable, match=r"the keeper did not answer within 0 s"):
        await wire.child.ask("keeper", "x", deadline=0)
    question = await wire.heard()
    for number in (question["id"], 999):
        wire.master.send({"kind": "answer", "id": number, "result": 1, "error": None})
    wire.master.send(MESSAGES[0])
    await until(lambda: wire.taken)
    assert not wire.running.done()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, {"result": {"what": "x", "a": 1}, "error": None}),
        (GatewayError("no"), {"result": None, "error": "no", "unavailable": False}),
        (Unavailable("later"), {"result": None, "error": "later", "unavailable": True}),
    ],
)
async def test_a_child_answers_who_asked(wire, error, told):
    async def handler(what, arguments):
        if error is not None:
            raise error
        return {"what": what, **arguments}

    wire.handler = handler
    wire.master.send({"kind": "ask", "from": "worker-1", "id": 7, "what": "x", "arguments": {"a": 1}})
    assert await wire.heard() == {"kind": "answer", "to": "worker-1", "id": 7, **told}


async def test_a_slow_answer_keeps_nothing_else_waiting(wire):
    may_answer = asyncio.Event()

    async def slow(what, arguments):
        if what == "slow":
            await may_answer.wait()
        return what

    wire.handler = slow
    for number, what in enumerate(("slow", "quick")):
        wire.master.send({"kind": "ask", "from": "keeper", "id": number, "what": what, "arguments": {}})
    assert (await wire.heard())["result"] == "quick"
    may_answer.set()
    assert (await wire.heard())["result"] == "slow"


async def test_at_the_end_of_the_master_the_child_stops_reading(wire, pipe):
    wire.master.close()
    await asyncio.wait_for(wire.running, 5)
    wire.child.send("totals", totals={})
    await wire.child.flush()


async def test_a_message_is_one_json_object_behind_its_length():
    data = encode({"kind": "ready"})
    assert struct.unpack(">I", data[:4]) == (len(data) - 4,)
    assert json.loads(data[4:]) == {"kind": "ready"}
