import io
import json
import logging

import pytest

from gateway.foundation import logs


@pytest.fixture
def stream():
    """A stream that the log is written to; the handlers of the test run are put back afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers[:] = []
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.requirement("ASVS 16.2.4")
def test_a_line_is_one_object_that_says_who_when_and_what(stream):
    logs.configure("worker-1", stream)
    logging.getLogger("gateway.test").warning("%s is %d", "it", 7, extra={"seat": "keeper", "pid": 12})
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "process": "worker-1",
        "logger": "gateway.test",
        "message": "it is 7",
        "seat": "keeper",
        "pid": 12,
    }


@pytest.mark.parametrize("hostile", ['a\nb"', "a\r\n{}", "\x1b[31m", "\u2028", "\ud800", "\0"])
@pytest.mark.advisory("CVE-2020-7694")
@pytest.mark.requirement("ASVS 16.4.1")
def test_no_value_can_begin_a_line_or_end_a_string(stream, hostile):
    logs.configure("worker-1", stream)
    logging.getLogger("x").error("got %s", hostile, extra={"also": hostile})
    assert len(stream.getvalue().split("\n")) == 2
    (line,) = lines(stream)
    assert (line["message"], line["also"]) == (f"got {hostile}", hostile)
    assert stream.getvalue().isascii()


@pytest.mark.parametrize("name", ["time", "level", "logger"])
def test_no_extra_takes_the_place_of_what_every_line_says(stream, name):
    logs.configure("worker-1", stream)
    logging.getLogger("x").error("said", extra={name: "forged"})
    assert lines(stream)[0][name] != "forged"


def test_an_exception_is_told_within_the_line(stream):
    logs.configure("worker-1", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stream)
    assert line["exception"].splitlines()[-1] == "ValueError: why"


def test_below_the_level_nothing_is_said(stream):
    logs.configure("worker-1", stream, logs.level("warning"))
    logging.getLogger("x").info("unsaid")
    logging.getLogger("aiohttp.access").info("unsaid")
    assert stream.getvalue() == ""


def test_configuring_again_replaces(stream):
    logs.configure("supervisor", io.StringIO())
    logs.configure("worker-1", stream)
    logging.getLogger("x").error("once")
    assert len(lines(stream)) == 1


@pytest.mark.parametrize(("name", "level"), [("debug", 10), ("info", 20), ("warning", 30), ("error", 40)])
def test_levels_by_the_name_in_the_settings(name, level):
    assert logs.level(name) == level
