"""A command without a gateway comes upon what a crash has left behind."""

from gateway.audit.events import EventName, event
from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter
from gateway.config.load import load_settings
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.supervisor.equipment import open_keyring
from gateway.supervisor.offline import run_offline


def test_what_a_crash_has_torn_is_recorded_before_its_chain_is_closed(place):
    settings, clock, entropy = place.configuration().settings, SystemClock(), SystemEntropy()
    place.state_dir.mkdir()
    keyring = open_keyring(settings, clock, entropy)
    checkpoints = CheckpointWriter(place.state_dir, keyring.load("journal"), "node-1", clock, entropy)
    journal = Journal(place.state_dir, "worker-0", "node-1", clock=clock, entropy=entropy)
    checkpoints.open_chain(journal.prepare())
    journal.commit_now(event(EventName.PROCESS_START, clock.now(), process="worker-0", pid=1))
    journal._writer.close()
    with (place.state_dir / "journal" / journal.opening.chain / "00000001.jsonl").open("ab") as segment:
        segment.write(b'{"v":1,"seq":2,"prev":"')
    run_offline(load_settings(place.settings_path), "tenant.add", {"names": ["acme"]})
    lines = b"".join(p.read_bytes() for p in (place.state_dir / "journal").glob("command-*/*.jsonl"))
    assert b'"event":"journal:torn-line"' in lines
