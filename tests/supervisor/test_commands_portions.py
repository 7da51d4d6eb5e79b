"""Many sessions end in portions: each is on record before the next one, whatever happens in between."""

from contextlib import closing

import pytest

from gateway.foundation.errors import JournalUnavailable, StoreUnavailable
from gateway.identity import sessions
from gateway.store.engine import Store

from .test_commands import CREDENTIALS, Gateway

PORTION = {"count": 2, "reason": "a portion"}


@pytest.fixture
def gateway(furnished, monkeypatch):
    monkeypatch.setattr(sessions, "ENDED_AT_ONCE", 2)
    with closing(Store.open("sqlite", furnished.state_dir, furnished.seals)) as store:
        gateway = Gateway(furnished, store)
        gateway.run("tenant.add", names=["acme"])
        gateway.run("user.add", name="Ada", home="acme", grants=["support@acme"], credentials=CREDENTIALS)
        for _ in range(5):
            gateway.session("ada")
        gateway.told()
        yield gateway


@pytest.mark.parametrize(
    ("words", "fields", "last"),
    [
        ({"all": True}, {}, "session:revoke"),
        ({"tenant": "acme"}, {"tenant": "acme"}, "session:revoke"),
        ({"name": "acme"}, {"tenant": "acme"}, "tenant:close"),
    ],
)
def test_each_portion_is_recorded_and_then_the_whole(gateway, words, fields, last):
    gateway.run("tenant.close" if "name" in words else "session.revoke", **words)
    portion = ("session:revoke", {**fields, **PORTION})
    assert gateway.told() == [portion, portion, (last, {**fields, "count": 5})]


def test_what_a_store_that_fails_in_between_has_done_is_on_record(gateway, monkeypatch):
    run, calls = gateway.store.run, []

    def failing(work):
        calls.append(work)
        if len(calls) == 3:
            raise StoreUnavailable("busy")
        return run(work)

    with monkeypatch.context() as patched:
        patched.setattr(gateway.store, "run", failing)
        with pytest.raises(StoreUnavailable, match="4 sessions were ended, and then: busy; do it again"):
            gateway.run("session.revoke", all=True)
    assert gateway.told() == [("session:revoke", PORTION)] * 2
    gateway.run("session.revoke", all=True)
    assert gateway.told() == [("session:revoke", {"count": 1})]


def test_what_can_t_be_recorded_is_said_and_goes_no_further(gateway):
    gateway.journal_fault = JournalUnavailable("full")
    with pytest.raises(JournalUnavailable, match=r"a portion of session\.revoke was done, but could not be recorded"):
        gateway.run("session.revoke", all=True)
    assert len(gateway.run("session.list")["sessions"]) == 3
