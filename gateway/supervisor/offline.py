"""Commands without a running gateway: by the process that gives them, with the master key, under the gateway's lock."""

import os
from contextlib import ExitStack, closing
from typing import Any

from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter, torn_event
from gateway.config.load import Loaded
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import JournalUnavailable, StoreUnavailable
from gateway.identity.factors import set_credentials
from gateway.metrics import Metrics
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import follow
from gateway.store.seals import Seals
from gateway.supervisor.build import read_configuration
from gateway.supervisor.command_socket import user_name
from gateway.supervisor.commands import OFFLINE, REPAIRS, Arguments, Context, factors_from_text, run_command, unrecorded
from gateway.supervisor.equipment import StateLock, open_keyring
from gateway.supervisor.watch import StoreWatch


def run_offline(loaded: Loaded, verb: str, arguments: Arguments) -> dict[str, Any]:
    """The same commands, by this process, with the master key, under the lock that a running gateway would hold, and
    recorded in a chain of its own. Raises GatewayError."""
    settings, clock, entropy = loaded.settings, SystemClock(), SystemEntropy()
    policy = read_configuration(loaded.path).policy
    with ExitStack() as stack:
        stack.enter_context(StateLock(settings.state_dir))
        keyring = open_keyring(settings, clock, entropy)
        checkpoints = CheckpointWriter(settings.state_dir, keyring.load("journal"), settings.node or "", clock)
        journal = Journal(settings.state_dir, "command", settings.node or "", clock=clock, entropy=entropy)
        checkpoints.open_chain(journal.prepare())
        seals = Seals(keyring.load("seal"))
        anchor = Anchor(settings.state_dir, seals)
        store = stack.enter_context(closing(Store.open(settings.store, settings.state_dir, seals)))
        stack.callback(checkpoints.sign)
        stack.callback(journal.close_now)
        for torn in checkpoints.find_torn():
            # Before the `sign` that says how its chain has ended.
            journal.commit_now(torn_event(torn, clock.now()))

        def give_credentials(person: str, password: str, totp_secret: str) -> None:
            new = factors_from_text(password, totp_secret, (person, settings.domain), entropy)
            set_credentials(store, keyring.load("factor"), person, new, clock, entropy)

        context = Context(
            store=store,
            settings=settings,
            session_keys=keyring.load("session"),
            seals=seals,
            snapshot_keys=keyring.load("snapshot"),
            set_credentials=give_credentials,
            roles=frozenset(policy.roles),
            clock=clock,
            entropy=entropy,
            operator=user_name(os.getuid()),
        )
        watch = StoreWatch(store, anchor, clock, Metrics())
        try:
            news, fault = watch.prepare()
        except StoreUnavailable:
            if verb != "snapshot.restore":
                raise
            news, fault = [], None
        for record in news:
            journal.commit_now(record)
        if fault is not None and verb not in REPAIRS:
            raise fault
        done = run_command(context, verb, arguments, OFFLINE)
        try:
            for record in done.events:
                journal.commit_now(record)
        except JournalUnavailable as error:
            raise unrecorded(verb, error) from error
        if verb not in REPAIRS:
            follow(store, anchor)
    return done.answer()
