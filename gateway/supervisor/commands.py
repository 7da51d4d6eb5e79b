"""What an administrator can do with a command: one function for each, the same in a running gateway and without one.

Law: a command is done, recorded in the journal with the operating system's user, and then answered, in this order; one
that could not be recorded says so. What is done in portions is recorded in portions. Secrets come in and go out in the
arguments and the result, and never in an event.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gateway.audit.events import EventFields, EventName, event
from gateway.config.schema import Settings
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError, JournalUnavailable, StoreUnavailable
from gateway.foundation.keyring import BY_NAME, KeySet
from gateway.foundation.principal import Grant
from gateway.identity import enrolment, otp, services, sessions, users
from gateway.identity.factors import NewFactors
from gateway.identity.passwords import find_weakness, hash_password
from gateway.identity.reductions import Repeated, read_reductions
from gateway.store import authority, integrity, snapshot
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.people import Person
from gateway.store.rotation import sealed_by
from gateway.store.seals import Seals
from gateway.store.sessions import Session
from gateway.store.tokens import ServiceToken
from gateway.supervisor.arguments import Arguments, require_shape


@dataclass(frozen=True)
class Context:
    """What a command works on. `set_credentials` (person, password, one-time-code secret) is done by whoever may read
    the key of factor secrets."""

    store: Store
    settings: Settings
    session_keys: KeySet
    seals: Seals
    snapshot_keys: KeySet
    set_credentials: Callable[[str, str, str], None]
    roles: frozenset[str]
    applications: frozenset[str]
    """Names that the policy has."""
    clock: Clock
    entropy: Entropy
    operator: str
    record: Callable[[bytes], None]
    """At once, what a command has done so far. Raises JournalUnavailable."""


@dataclass(frozen=True)
class Done:
    """The answer, and what is recorded of it. `failure`: it was done in part, which is recorded and then said."""

    result: dict[str, Any]
    events: list[bytes] = field(default_factory=list)
    failure: GatewayError | None = None

    def answer(self) -> dict[str, Any]:
        """Once it is recorded. Raises GatewayError."""
        if self.failure is not None:
            raise self.failure
        return self.result


Command = Callable[[Context, Arguments], Done]


def run_command(
    context: Context, verb: str, arguments: Arguments, commands: Mapping[str, Command] | None = None
) -> Done:
    """Raises GatewayError in the user's words."""
    command = (commands or COMMANDS).get(verb)
    if command is None:
        raise GatewayError(f"there is no command {verb!r}")
    require_shape(verb, arguments)
    try:
        return command(context, arguments)
    except KeyError as error:
        raise GatewayError(f"{verb} needs {error.args[0]}") from error


def _event(context: Context, name: EventName, fields: EventFields) -> bytes:
    fields["operator"] = context.operator
    return event(name, context.clock.now(), **fields)


# Tenants.


def _tenant_add(context: Context, arguments: Arguments) -> Done:
    added = [tenant.name for tenant in users.add_tenants(context.store, arguments["names"], context.clock)]
    return Done({"added": added}, [_event(context, EventName.TENANT_ADD, {"tenant": name}) for name in added])


def _tenant_list(context: Context, _: Arguments) -> Done:
    rows = [
        {"name": tenant.name, "created": tenant.created_at, "closed": tenant.closed_at}
        for tenant in users.list_tenants(context.store)
    ]
    return Done({"tenants": rows})


def _tenant_close(context: Context, arguments: Arguments) -> Done:
    name = arguments["name"]
    each = _portions(context, "tenant.close", {"tenant": name})
    ended = sessions.end_of_tenant(context.store, name, "tenant closed", context.clock, each)
    users.close_tenant(context.store, name, context.clock)
    told: EventFields = {"tenant": name, "count": len(ended)}
    return Done({"name": name, "sessions_ended": len(ended)}, [_event(context, EventName.TENANT_CLOSE, told)])


# People.


def _user_add(context: Context, arguments: Arguments) -> Done:
    grants = _grants(context, arguments.get("grants", []))
    new = users.NewUser(arguments["name"], arguments.get("home") or "-", grants)
    credentials = arguments.get("credentials")
    if credentials is not None:
        # First, since a name that was taken is never given again: a bad password must not use it up.
        check_factors(credentials["password"], credentials["totp_secret"], (new.name, context.settings.domain))
    person = users.add(context.store, new, context.clock, context.entropy)
    told: EventFields = {
        "user": person.id,
        "name": person.name,
        "tenant": None if person.home == "-" else person.home,
        "grants": sorted(map(str, person.grants)),
    }
    events = [_event(context, EventName.USER_ADD, told)]
    if credentials is None:
        return _with_link(context, person, {}, events)
    try:
        context.set_credentials(person.id, credentials["password"], credentials["totp_secret"])
    except GatewayError as error:
        why = f"{person.name} was added, but without credentials ({error}): `user reset` makes an enrolment link"
        return Done({}, events, GatewayError(why))
    events.append(_event(context, EventName.FACTOR_ADD, {"user": person.id, "name": person.name}))
    return Done({"id": person.id, "name": person.name, "link": None}, events)


def _user_list(context: Context, arguments: Arguments) -> Done:
    home = arguments.get("tenant")
    enrolled = users.enrolled(context.store)
    listed = [person for person in users.listing(context.store) if home in (None, person.home)]
    return Done({"users": [_person(person, person.id in enrolled) for person in listed]})


def _user_show(context: Context, arguments: Arguments) -> Done:
    found = users.show(context.store, arguments["name"], context.clock)
    factors = [
        {"kind": each.kind, "id": each.id, "state": "active" if each.disabled_at is None else "disabled"}
        for each in found.authenticators
    ]
    person = _person(found.person, found.has_password)
    person |= {"display": found.person.display, "created": found.person.created_at}
    return Done({**person, "factors": factors, "sessions": len(found.sessions)})


def _user_disable(context: Context, arguments: Arguments) -> Done:
    return _ended(context, EventName.USER_DISABLE, users.disable(context.store, arguments["name"], context.clock))


def _user_enable(context: Context, arguments: Arguments) -> Done:
    return _ended(context, EventName.USER_ENABLE, users.enable(context.store, arguments["name"], context.clock))


def _user_remove(context: Context, arguments: Arguments) -> Done:
    return _ended(context, EventName.USER_REMOVE, users.remove(context.store, arguments["name"], context.clock))


def _user_reset(context: Context, arguments: Arguments) -> Done:
    ended = users.reset(context.store, arguments["name"], context.clock)
    done = _ended(context, EventName.USER_RESET, ended)
    return _with_link(context, ended.person, done.result, done.events)


def _user_unlock(context: Context, arguments: Arguments) -> Done:
    person = users.unlock(context.store, arguments["name"])
    about: EventFields = {"user": person.id, "name": person.name}
    return Done({"id": person.id, "name": person.name}, [_event(context, EventName.USER_UNLOCK, about)])


def _user_grant(context: Context, arguments: Arguments) -> Done:
    wanted = _grants(context, arguments["grants"])
    person = users.grant(context.store, arguments["name"], wanted, context.clock)
    return _granted(context, EventName.GRANT_ADD, person, wanted)


def _user_ungrant(context: Context, arguments: Arguments) -> Done:
    unwanted = _parse_grants(arguments["grants"])
    person = users.ungrant(context.store, arguments["name"], unwanted, context.clock)
    return _granted(context, EventName.GRANT_REMOVE, person, unwanted)


def _granted(context: Context, name: EventName, person: Person, which: frozenset[Grant]) -> Done:
    events = [
        _event(context, name, {"user": person.id, "name": person.name, "grant": str(grant)}) for grant in sorted(which)
    ]
    return Done({"id": person.id, "name": person.name, "grants": sorted(map(str, person.grants))}, events)


def _ended(context: Context, name: EventName, ended: users.Ended) -> Done:
    told: EventFields = {"user": ended.person.id, "name": ended.person.name, "count": len(ended.sessions)}
    result = {"id": ended.person.id, "name": ended.person.name, "sessions_ended": len(ended.sessions)}
    return Done(result, [_event(context, name, told)])


def _with_link(context: Context, person: Person, result: dict[str, Any], events: list[bytes]) -> Done:
    """A one-time enrolment link, which is in the answer and nowhere else."""
    made = enrolment.open_link(context.store, context.session_keys, person.id, context.clock, context.entropy)
    link = f"{context.settings.origin(context.settings.login_host)}/enrol/{made.token}"
    told: EventFields = {"user": person.id, "name": person.name, "expires": made.expires_at}
    return Done(
        {**result, "id": person.id, "name": person.name, "link": link},
        [*events, _event(context, EventName.ENROLMENT_CREATE, told)],
    )


# Service tokens.


def _token_create(context: Context, arguments: Arguments) -> Done:
    applications = frozenset(arguments.get("applications", ()))
    _require_known("application", applications, context.applications)
    new = services.NewToken(
        arguments["name"],
        _grants(context, arguments.get("grants", [])),
        applications or None,
        arguments.get("expires_seconds"),
    )
    created = services.create(context.store, new, context.session_keys, context.clock, context.entropy)
    token = created.token
    told: EventFields = {
        "token_id": token.id,
        "user": token.account,
        "name": token.name,
        "grants": sorted(map(str, token.grants)),
        "applications": sorted(token.applications or ()),
        "expires": token.expires_at,
    }
    result = {"id": token.id, "account": token.account, "name": token.name, "expires": token.expires_at}
    return Done({**result, "token": created.secret.reveal()}, [_event(context, EventName.TOKEN_CREATE, told)])


def _token_list(context: Context, _: Arguments) -> Done:
    return Done({"tokens": [_token(token) for token in services.listing(context.store)]})


def _token_revoke(context: Context, arguments: Arguments) -> Done:
    revoked = services.revoke(context.store, arguments["token"], context.clock)
    events = [_event(context, EventName.TOKEN_REVOKE, {"token_id": each.id, "name": each.name}) for each in revoked]
    return Done({"revoked": [each.id for each in revoked]}, events)


# Sessions.


def _session_list(context: Context, arguments: Arguments) -> Done:
    names = {person.id: person.name for person in users.listing(context.store)}
    live = sessions.listing(context.store, context.clock, arguments.get("user"))
    return Done({"sessions": [_session(session, names) for session in live]})


def _session_revoke(context: Context, arguments: Arguments) -> Done:
    store, clock, why = context.store, context.clock, "revoked"
    told: EventFields
    if (user := arguments.get("user")) is not None:
        person = users.find(store, user)
        ended = sessions.end_of_person(store, person.id, why, clock)
        told = {"user": person.id, "name": person.name}
    elif (session := arguments.get("session")) is not None:
        ended, told = sessions.end(store, session, why, clock), {"session": session}
    elif (tenant := arguments.get("tenant")) is not None:
        told = {"tenant": tenant}
        ended = sessions.end_of_tenant(store, tenant, why, clock, _portions(context, "session.revoke", told))
    elif arguments.get("all"):
        told = {}
        ended = sessions.end_all(store, why, clock, _portions(context, "session.revoke", told))
    else:
        raise GatewayError("say which sessions: of a user, one by its id, of a tenant, or all")
    told["count"] = len(ended)
    return Done({"sessions_ended": len(ended)}, [_event(context, EventName.SESSION_REVOKE, told)])


def _portions(context: Context, verb: str, told: EventFields) -> Callable[[int], None]:
    """Has each portion recorded that is not the last one: the command's own event has the number of all."""

    def record(count: int) -> None:
        fields: EventFields = {**told, "count": count, "reason": "a portion"}
        try:
            context.record(_event(context, EventName.SESSION_REVOKE, fields))
        except JournalUnavailable as error:
            raise unrecorded(f"a portion of {verb}", error) from error

    return record


# Snapshots, and what is told of keys.


def snapshot_folder(settings: Settings) -> Path:
    return settings.state_dir / "snapshots"


def _snapshot_create(context: Context, _: Arguments) -> Done:
    folder = snapshot_folder(context.settings)
    made = snapshot.create(context.store, folder, context.snapshot_keys.current, context.clock, context.entropy)
    removed = snapshot.prune(folder, context.settings.snapshots.keep)
    told: EventFields = {"snapshot": made.name, "bytes": made.size, "count": len(removed)}
    return Done({**_snapshot(made), "path": str(made.path)}, [_event(context, EventName.SNAPSHOT_CREATE, told)])


def _snapshot_list(context: Context, _: Arguments) -> Done:
    return Done({"snapshots": [_snapshot(each) for each in snapshot.listing(snapshot_folder(context.settings))]})


def _snapshot_verify(context: Context, arguments: Arguments) -> Done:
    found = snapshot.verify(_snapshot_path(context, arguments["snapshot"]), context.snapshot_keys)
    return Done(_snapshot(found), [_event(context, EventName.SNAPSHOT_VERIFY, {"snapshot": found.name})])


def _snapshot_path(context: Context, text: str) -> Path:
    path = Path(text) if text.startswith("/") else snapshot_folder(context.settings) / text
    try:
        with path.open("rb"):
            return path
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise GatewayError(f"there is no snapshot {text!r}: `snapshot list` shows those of this state_dir") from None
    except (OSError, ValueError) as error:
        raise GatewayError(f"the snapshot {text!r} can't be read by the keeper: {error}") from error


def _snapshot_restore(context: Context, arguments: Arguments) -> Done:
    path, state_dir = _snapshot_path(context, arguments["snapshot"]), context.settings.state_dir
    context.store.close()
    done: list[Repeated] = []
    unreadable = 0

    def again(info: snapshot.SnapshotInfo) -> Callable[[Connection], None]:
        nonlocal unreadable
        reductions = read_reductions(state_dir, info.created_at)
        unreadable = reductions.unreadable
        return lambda connection: done.extend(reductions.repeat(connection, context.clock.now()))

    restored = snapshot.restore(path, context.snapshot_keys, context.seals, state_dir, context.clock, again)
    events = [_event(context, EventName.SNAPSHOT_RESTORE, {"snapshot": restored.name, "count": len(done)})]
    events += [_event(context, each.name, {**each.fields, "reason": "snapshot restore"}) for each in done]
    result = {**_snapshot(restored), "again": [str(each) for each in done], "unreadable": unreadable}
    return Done(result, events)


# The store as a whole.


def _store_check(context: Context, _: Arguments) -> Done:
    report = integrity.review(context.store, Anchor(context.settings.state_dir, context.seals))
    if report.problem is None:
        snapshot.whole(context.store)  # What carries authority is read: here is the rest.
    return Done({"problem": report.problem, "broken": integrity.names(report.broken)})


def _store_reseal(context: Context, _: Arguments) -> Done:
    broken = integrity.names(context.store.read(authority.inspect).broken)
    count = integrity.reseal(context.store, Anchor(context.settings.state_dir, context.seals))
    told: EventFields = {"count": count, "problems": broken[:MOST_NAMED]}
    return Done({"count": count, "broken": broken}, [_event(context, EventName.STORE_RESEAL, told)])


def sealed_rows(store: Store, keys: KeySet) -> dict[str, int]:
    """By id of the version of the key `seal`, how many rows it has sealed; nothing if the store can't be asked."""
    try:
        return store.read(lambda connection: sealed_by(connection, keys.keys))
    except StoreUnavailable:
        return {}


def key_rows(versions: Iterable[Mapping[str, Any]], rows: Mapping[str, int]) -> list[dict[str, Any]]:
    """For `keys list`: each version with its row of `keyring.PURPOSES`, and with the rows of the store that it has
    sealed: how far a rotation of that key has come."""
    return [
        {
            **version,
            "rows": rows.get(version["id"]),
            "readers": sorted(BY_NAME[version["purpose"]].readers),
            "does": BY_NAME[version["purpose"]].does,
            "rotation": BY_NAME[version["purpose"]].rotation,
            "loss": BY_NAME[version["purpose"]].loss,
        }
        for version in versions
    ]


COMMANDS: Mapping[str, Command] = {
    "tenant.add": _tenant_add,
    "tenant.list": _tenant_list,
    "tenant.close": _tenant_close,
    "user.add": _user_add,
    "user.list": _user_list,
    "user.show": _user_show,
    "user.disable": _user_disable,
    "user.enable": _user_enable,
    "user.remove": _user_remove,
    "user.reset": _user_reset,
    "user.unlock": _user_unlock,
    "user.grant": _user_grant,
    "user.ungrant": _user_ungrant,
    "token.create": _token_create,
    "token.list": _token_list,
    "token.revoke": _token_revoke,
    "session.list": _session_list,
    "session.revoke": _session_revoke,
    "snapshot.create": _snapshot_create,
    "snapshot.list": _snapshot_list,
    "snapshot.verify": _snapshot_verify,
    "store.check": _store_check,
}
"""What the keeper does while the gateway runs. The verbs and their shapes: `gateway.cli.remote`."""

OFFLINE: Mapping[str, Command] = {
    **COMMANDS,
    "snapshot.restore": _snapshot_restore,
    "store.reseal": _store_reseal,
}
"""What can be done while nothing runs."""

REPAIRS = frozenset(
    {"store.check", "store.reseal", "snapshot.list", "snapshot.verify", "snapshot.restore", "keys.list", "keys.rewrap"}
)
"""What is done beside a store that was tampered with, and nothing else is."""

MOST_NAMED = 100
"""Broken things that one record names."""


# Words and values.


def _grants(context: Context, texts: list[str]) -> frozenset[Grant]:
    """Grants to give: of roles that the policy has."""
    grants = _parse_grants(texts)
    _require_known("role", {grant.role for grant in grants}, context.roles)
    return grants


def _require_known(what: str, named: Set[str], known: Set[str]) -> None:
    """So that a slip of the pen is noticed now and not in a year."""
    if unknown := sorted(named - known):
        there_are = ", ".join(sorted(known)) or "none"
        raise GatewayError(f"the policy has no {what} {', '.join(map(repr, unknown))}; it has: {there_are}")


def _parse_grants(texts: list[str]) -> frozenset[Grant]:
    try:
        return frozenset(Grant.parse(text) for text in texts)
    except ValueError as error:
        raise GatewayError(str(error)) from error


def _state(person: Person, is_enrolled: bool) -> str:
    if not person.is_active:
        return "disabled"
    return "active" if is_enrolled else "enrolling"


def _person(person: Person, is_enrolled: bool) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "home": person.home,
        "state": _state(person, is_enrolled),
        "grants": sorted(map(str, person.grants)),
    }


def _session(session: Session, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": session.id,
        "user": names.get(session.person, session.person),
        "client": session.client,
        "amr": list(session.amr),
        "created": session.created_at,
        "last_used": session.last_used,
        "until": session.until,
    }


def _token(token: ServiceToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "account": token.account,
        "name": token.name,
        "applications": None if token.applications is None else sorted(token.applications),
        "grants": sorted(map(str, token.grants)),
        "created": token.created_at,
        "expires": token.expires_at,
        "revoked": token.revoked_at,
    }


def _snapshot(info: snapshot.SnapshotInfo) -> dict[str, Any]:
    return {"name": info.name, "created": info.created_at, "bytes": info.size}


def unrecorded(verb: str, error: JournalUnavailable) -> JournalUnavailable:
    return JournalUnavailable(f"{verb} was done, but could not be recorded: {error}")


def check_factors(password: str, totp_secret: str, words: tuple[str, ...]) -> bytes:
    """The secret's bytes. `words` are those that a password must not be made of. Raises GatewayError."""
    weakness = find_weakness(password, words)
    if weakness is not None:
        raise GatewayError(f"the password can't be used: {weakness}")
    try:
        return otp.parse_secret(totp_secret)
    except ValueError as error:
        raise GatewayError(str(error)) from error


def factors_from_text(password: str, totp_secret: str, context: tuple[str, ...], entropy: Entropy) -> NewFactors:
    """What `user add --credentials-stdin` is given, checked like what a person chooses. Raises GatewayError."""
    secret = check_factors(password, totp_secret, context)
    return NewFactors(hash_password(password, entropy), secret)
