"""Commands without a running gateway: by the process that gives them, with the master key, under the gateway's lock."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.audit.events import EventName, event
from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter, torn_event
from gateway.config.load import Loaded, master_key
from gateway.config.read import read_secret
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError, JournalUnavailable, StoreUnavailable
from gateway.foundation.keyfiles import Keyring, rewrap
from gateway.identity.factors import set_credentials
from gateway.metrics import Metrics
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import follow
from gateway.store.seals import Seals
from gateway.supervisor.arguments import Arguments, require_shape
from gateway.supervisor.build import read_configuration
from gateway.supervisor.commands import (
    OFFLINE,
    REPAIRS,
    Command,
    Context,
    Done,
    factors_from_text,
    key_rows,
    run_command,
    sealed_rows,
    unrecorded,
)
from gateway.supervisor.equipment import StateLock, open_keyring
from gateway.supervisor.users import acting_as, identities, user_name
from gateway.supervisor.watch import StoreWatch


def run_offline(loaded: Loaded, verb: str, arguments: Arguments) -> dict[str, Any]:
    """The same commands, by this process, with the master key, under the lock that a running gateway would hold, and
    recorded in a chain of its own. What it writes is the keeper's. Raises GatewayError."""
    require_shape(verb, arguments)
    settings, clock, entropy = loaded.settings, SystemClock(), SystemEntropy()
    policy = read_configuration(loaded.path).policy
    who = identities(settings)
    with ExitStack() as stack:
        stack.enter_context(StateLock(settings.state_dir, who))
        wrapped = 0
        if verb == "keys.rewrap":
            wrapped = _rewrap(loaded, arguments)
            stack.enter_context(_after_rewrap())
        keyring = open_keyring(settings, clock, entropy)
        keys = {name: keyring.load(name) for name in ("journal", "session", "seal", "snapshot", "factor")}
        # What an older snapshot holds may be proven by a version that is in nobody's hands any more.
        proving = keyring.load_all("seal") if verb == "snapshot.restore" else keys["seal"]
        commands = {**OFFLINE, **_key_commands(keyring, wrapped)}
        stack.enter_context(acting_as(None if who is None else who["keeper"]))
        checkpoints = CheckpointWriter(settings.state_dir, keys["journal"], settings.node or "", clock, entropy)
        journal = Journal(settings.state_dir, "command", settings.node or "", clock=clock, entropy=entropy)
        checkpoints.open_chain(journal.prepare())
        seals = Seals(proving)
        anchor = Anchor(settings.state_dir, seals)
        store = stack.enter_context(closing(Store.open(settings.store, settings.state_dir, seals)))
        stack.callback(checkpoints.sign)
        stack.callback(journal.close_now)
        for torn in checkpoints.follow().torn:
            # Before the `sign` that says how its chain has ended.
            journal.commit_now(torn_event(torn, clock.now()))

        def give_credentials(person: str, password: str, totp_secret: str) -> None:
            new = factors_from_text(password, totp_secret, (person, settings.domain), entropy)
            set_credentials(store, keys["factor"], person, new, clock, entropy)

        context = Context(
            store=store,
            settings=settings,
            session_keys=keys["session"],
            seals=seals,
            snapshot_keys=keys["snapshot"],
            set_credentials=give_credentials,
            roles=frozenset(policy.roles),
            applications=frozenset(policy.applications),
            clock=clock,
            entropy=entropy,
            operator=user_name(os.getuid()),
            record=journal.commit_now,
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
        try:
            done = run_command(context, verb, arguments, commands)
        except StoreUnavailable as error:
            # What is wrong with a store that can't even be asked was found above.
            raise fault or error from error
        try:
            for record in done.events:
                journal.commit_now(record)
        except JournalUnavailable as error:
            raise unrecorded(verb, error) from error
        if verb not in REPAIRS:
            follow(store, anchor)
    return done.answer()


def _key_commands(keyring: Keyring, wrapped: int) -> dict[str, Command]:
    """What the supervisor answers while it runs, and what it is in the way of: `wrapped` keys have a new master key."""
    versions = [asdict(each) for each in keyring.listing()]

    def listed(context: Context, _: Arguments) -> Done:
        return Done({"keys": key_rows(versions, sealed_rows(context.store, keyring.load("seal")))})

    def rewrapped(context: Context, _: Arguments) -> Done:
        told = event(EventName.KEY_ROTATE, context.clock.now(), key="master", count=wrapped, operator=context.operator)
        return Done({"versions": wrapped}, [told])

    return {"keys.list": listed, "keys.rewrap": rewrapped}


def _rewrap(loaded: Loaded, arguments: Arguments) -> int:
    """Every key, from the master key in the file `old` to the one of the settings. Raises GatewayError."""
    if not arguments.get("old"):
        raise GatewayError("keys rewrap needs the file of the old master key")
    old, new = read_secret(Path(arguments["old"])), master_key(loaded.settings).reveal()
    return rewrap(loaded.settings.state_dir / "keys", old, new, SystemEntropy())


@contextmanager
def _after_rewrap() -> Iterator[None]:
    """The keys come before all that they open, their own record included: whatever fails now, they are wrapped."""
    try:
        yield
    except (GatewayError, OSError) as error:
        raise GatewayError(
            f"every key is wrapped with the new master key already, but that may not be recorded: {error}; "
            "give the command again to record it"
        ) from error
