"""How a verb reaches whoever does it: the keeper's socket while the gateway runs, this process when it doesn't.

The keeper serves `POST /command` with `{"verb": …, "arguments": {…}}` on `<state_dir>/run/keeper.sock` and answers
`{"ok": true, "result": {…}}` or `{"ok": false, "error": "…"}`, the error in the user's words. Who asks, it knows from
the socket (SO_PEERCRED). Times are unix seconds, `null` for never; lists of grants hold `role@tenant`.

verb            arguments                                   result
--------------  ------------------------------------------  ---------------------------------------------------------
status          -                                           node, version, config, since, ready, leaving: [pid],
                                                            processes: [{process, pid, state, since, user,
                                                            confined}]
reload          -                                           config
restart         -                                           config (of those that are replaced)
tenant.add      names                                       added: [name]
tenant.list     -                                           tenants: [{name, created, closed}]
tenant.close    name                                        name, sessions_ended
user.add        name, home, grants,                         id, name, link (null with credentials)
                credentials: {password, totp_secret} | null
user.list       tenant | null (of home)                     users: [{id, name, home, state, grants}]
user.show       name                                        id, name, display, home, state, created, grants,
                                                            factors: [{kind, id, state}], sessions (a number)
user.disable    name                                        id, name, sessions_ended
user.enable     name                                        id, name, sessions_ended
user.remove     name                                        id, name, sessions_ended
user.grant      name, grants                                id, name, grants (all that are held now)
user.ungrant    name, grants                                id, name, grants (all that are held now)
user.reset      name                                        id, name, link, sessions_ended
user.unlock     name                                        id, name
token.create    name, applications (empty: all), grants,    id, account, name, expires, token
                expires_seconds
token.list      -                                           tokens: [{id, account, name, applications, grants,
                                                            created, expires, revoked}]
token.revoke    token (id, or name of the account)          revoked: [id]
session.list    user | null                                 sessions: [{id, user, client, amr, created, last_used,
                                                            until}]
session.revoke  one of user, session, tenant, all: true     sessions_ended
snapshot.create -                                           name, path, bytes, created
snapshot.list   -                                           snapshots: [{name, bytes, created}]
snapshot.verify snapshot (name, or absolute path)           name, created, bytes
snapshot.restore  snapshot (name, or absolute path)         name, created, bytes, again: [what was done again],
                                                            unreadable (lines of the journal)
store.check     -                                           problem (null: none), broken: [kind/id]
store.reseal    -                                           count, broken: [kind/id]
keys.rotate     purpose                                     purpose, id, signs_in (seconds), config
keys.rewrap     old (the old master key's file)             versions (a number)
keys.list       -                                           keys: [{purpose, id, created, is_current, readers, does,
                                                            rotation, loss}]

`state` of a person is `active`, `disabled` or `enrolling`. What can't be done is an error and never a result.
"""

import http.client
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.foundation.errors import GatewayError

if TYPE_CHECKING:
    from gateway.config.load import Loaded

SOCKET = Path("run/keeper.sock")
LARGEST_ANSWER_BYTES = 64 << 20
DEADLINE_SECONDS = 30.0
_DEADLINES = {
    "restart": 60.0,
    "snapshot.create": 900.0,
    "snapshot.verify": 900.0,
    "snapshot.restore": 900.0,
    "store.check": 900.0,
}
NEEDS_RUNNING = frozenset({"status", "reload", "restart", "keys.rotate"})
NEEDS_STOPPED = frozenset({"snapshot.restore", "store.reseal", "keys.rewrap"})


class NothingAnswers(GatewayError):
    """No process listens on the keeper's socket: the gateway does not run."""


def ask(config: Path, verb: str, **arguments: object) -> dict[str, Any]:
    """The result of a verb, of the gateway whose settings file is `config`. Raises GatewayError."""
    from gateway.config.load import load_settings

    return call(load_settings(config), verb, arguments)


def call(loaded: "Loaded", verb: str, arguments: dict[str, object]) -> dict[str, Any]:
    """Through the keeper if it listens. Only when nothing listens is the verb done here: a keeper that is slow or
    refuses us is there, and nobody may work beside it. `run_offline` takes the lock that makes this certain."""
    path = loaded.settings.state_dir / SOCKET
    try:
        if verb in NEEDS_STOPPED:
            _refuse_if_running(path, verb)
        else:
            return _exchange(path, verb, arguments)
    except NothingAnswers:
        if verb in NEEDS_RUNNING:
            raise
    from gateway.supervisor.offline import run_offline

    return run_offline(loaded, verb, arguments)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, deadline: float) -> None:
        super().__init__("keeper", timeout=deadline)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _refuse_if_running(path: Path, verb: str) -> None:
    connection = _Connection(path, DEADLINE_SECONDS)
    _connect(connection, path)
    connection.close()
    raise GatewayError(f"{verb.replace('.', ' ')} needs a gateway that is stopped: this one runs")


def _exchange(path: Path, verb: str, arguments: dict[str, object]) -> dict[str, Any]:
    deadline = _DEADLINES.get(verb, DEADLINE_SECONDS)
    connection = _Connection(path, deadline)
    _connect(connection, path)
    try:
        body = json.dumps({"verb": verb, "arguments": arguments})
        connection.request("POST", "/command", body, {"Content-Type": "application/json"})
        raw = connection.getresponse().read(LARGEST_ANSWER_BYTES)
    except TimeoutError:
        raise GatewayError(
            f"the gateway did not answer within {deadline:.0f} s: whether it did it is unknown"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise GatewayError(f"the gateway broke off: whether it did it is unknown ({error})") from error
    finally:
        connection.close()
    return _result(raw)


def _connect(connection: _Connection, path: Path) -> None:
    try:
        connection.connect()
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NothingAnswers(f"the gateway is not running: nothing answers on {path}") from None
    except OSError as error:
        connection.close()
        raise GatewayError(f"the gateway can't be reached on {path}: {error.strerror or error}") from error


def _result(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
        if answer["ok"] is True:
            return dict(answer["result"])
        error = str(answer["error"])
    except (ValueError, TypeError, KeyError):
        raise GatewayError("the gateway gave an answer that is none: is it of the same version?") from None
    raise GatewayError(error)
