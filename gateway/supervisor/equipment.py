"""What each process is given: listening sockets, keys, certificates. The only holder of the master key.

Law: a process gets the keys whose row in `keyring.PURPOSES` names it, and no others, over its own pipe; neither keys
nor the master key are in any environment or command line. Sockets are made once and outlive every process.
"""

import fcntl
import logging
import os
import socket
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from gateway.config.load import master_key
from gateway.config.schema import Settings
from gateway.config.values import ListenAddress
from gateway.foundation.clock import Clock, SystemClock
from gateway.foundation.entropy import Entropy, SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyfiles import Keyring
from gateway.identity.tokens import jwks
from gateway.proxy import rates
from gateway.proxy.tls import Certificate, client_context
from gateway.supervisor import activation
from gateway.supervisor.build import KEEPER_SOCKET, PORTAL_SOCKET, Configuration
from gateway.supervisor.certificates import read_certificates, remarks
from gateway.supervisor.local_ca import issue
from gateway.supervisor.roster import Role, Seat
from gateway.supervisor.users import Identities, Identity, furnish, identities, user_name

BACKLOG = 1024
log = logging.getLogger(__name__)
LOCK, KEEPER_LOCK = Path("run/lock"), Path("run/keeper.lock")
ROLES: tuple[Role, ...] = ("keeper", "portal", "worker")


class _Open(Protocol):
    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Descriptor:
    number: int

    def fileno(self) -> int:
        return self.number


class Equipment:
    def __init__(
        self,
        configuration: Configuration,
        sockets: ExitStack,
        listening: dict[str, _Open],
        who: Identities | None,
        keyring: Keyring,
    ) -> None:
        self._settings, self._sockets, self._listening, self._who = configuration.settings, sockets, listening, who
        self._header_secrets = configuration.header_secrets
        self.slots = worker_count(self._settings)
        self._clock: Clock = SystemClock()
        self._entropy: Entropy = SystemEntropy()
        self._keyring = keyring
        self._certificates = self._read_certificates(configuration)
        self._upstream_certificate = self._read_upstream_certificate()
        # Once: who is replaced later has the same keys as the others, whatever was rotated on disk since.
        self._given = {role: self._read_for(role) for role in ROLES}
        self.keys_change = self._keyring.next_change()
        """The unix time from which on `renewed` equipment has other keys; None: never."""

    @classmethod
    def for_configuration(
        cls, configuration: Configuration, inherited: Mapping[str, int] | None = None, known: Collection[str] = ()
    ) -> Self:
        """Take the lock of this `state_dir` and bind every socket, unless they are `inherited` (`left`) from a
        supervisor whose processes go on, and have the keys with the ids `known`. Raises GatewayError in the user's
        words."""
        with ExitStack() as stack:
            settings = configuration.settings
            who = identities(settings)
            listening: dict[str, _Open] = {}
            if inherited is None:
                listening |= stack.enter_context(StateLock(settings.state_dir, who)).held
                listening |= _listen_to_clients(settings, stack)
                listening["rates"] = stack.enter_context(os.fdopen(rates.create(worker_count(settings)), "rb"))
                # Workers connect to the portal, by the group of the folder; and to the keeper, who gives commands.
                portal_mode = 0o600 if who is None else 0o660
                listening["portal"] = stack.enter_context(_listen_unix(settings.state_dir / PORTAL_SOCKET, portal_mode))
                listening["keeper"] = stack.enter_context(_listen_unix(settings.state_dir / KEEPER_SOCKET, 0o600))
            else:
                # One that systemd passed has several names.
                for descriptor in set(inherited.values()):
                    stack.callback(os.close, descriptor)
                listening |= {name: _Descriptor(descriptor) for name, descriptor in inherited.items()}
            keyring = open_keyring(settings, SystemClock(), SystemEntropy())
            if inherited is not None:
                keyring.hold_back(known)
            equipment = cls(configuration, stack, listening, who, keyring)
            try:
                equipment.save_keys()
            except GatewayError as error:
                # Versions that are over stay where they are for now: a full disk is no reason not to serve.
                log.warning("older keys could not be dropped: %s", error)
            equipment._sockets = stack.pop_all()
            return equipment

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sockets.close()

    def left(self) -> dict[str, int]:
        """Every descriptor, for a successor that is to have the same."""
        return {name: each.fileno() for name, each in self._listening.items()}

    def descriptors(self, seat: Seat) -> dict[str, int]:
        """The sockets of a seat, by what they are for.

        The keeper has a lock as well: should the supervisor be killed, nobody signs beside the one that is left.
        """
        match seat.role:
            case "worker":
                names = self._settings.listen.of_workers
                sockets = {name: self._listening[f"{name}/{seat.index}"].fileno() for name in names}
                return {**sockets, "rates": self._listening["rates"].fileno()}
            case "portal":
                return {"portal": self._listening["portal"].fileno()}
            case "keeper":
                return {name: self._listening[name].fileno() for name in ("ops", "keeper", "lock")}

    def for_role(self, role: Role) -> dict[str, Any]:
        """Keys and certificates for one process, as they go over its pipe."""
        return self._given[role]

    def _read_for(self, role: Role) -> dict[str, Any]:
        keys = {
            name: [key.as_json() for key in keyset.keys] for name, keyset in self._keyring.for_process(role).items()
        }
        given: dict[str, Any] = {"keys": keys, "jwks": jwks(self._keyring.load("assertion"))}
        if role in ("worker", "keeper"):
            given["certificates"] = [
                {"chain": each.chain.decode(), "private_key": each.private_key.decode()} for each in self._certificates
            ]
        if role == "worker":
            given["header_secrets"] = {place: secret.reveal() for place, secret in self._header_secrets.items()}
        if role == "worker" and self._upstream_certificate is not None:
            own = self._upstream_certificate
            given["upstream_certificate"] = {"chain": own.chain.decode(), "private_key": own.private_key.decode()}
        return given

    def identity(self, role: Role) -> Identity | None:
        """Who a process is to be; None: who we are."""
        return None if self._who is None else self._who[role]

    def renewed(
        self, configuration: Configuration, rotated: str | None = None, *, retired: tuple[str, str] | None = None
    ) -> "Equipment":
        """The same sockets, with certificates and keys read again; `rotated`: the purpose of a key that gets a new
        version on the way; `retired`: of one that loses the older ones, and the id of the version that stays. What is
        new to us is new to every process, whenever it was made. Raises GatewayError."""
        keyring = open_keyring(configuration.settings, self._clock, self._entropy)
        if rotated is not None:
            keyring.rotate(rotated)
        if retired is not None:
            keyring.retire(*retired)
        keyring.hold_back(self.known)
        return Equipment(configuration, self._sockets, self._listening, self._who, keyring)

    @property
    def known(self) -> set[str]:
        """Ids of the versions of keys that processes have, or have had."""
        return {each.id for each in self._keyring.listing()}

    def save_keys(self) -> None:
        """Before anybody uses this equipment. Raises GatewayError."""
        self._keyring.save()

    def newest(self, purpose: str) -> str:
        """Id of the version that was made last."""
        return next(each.id for each in self._keyring.listing() if each.purpose == purpose)

    def keys(self) -> list[dict[str, Any]]:
        """What may be told of every version of every key."""
        return [asdict(each) for each in self._keyring.listing()]

    def hide_secrets(self, environment: dict[str, str], role: Role) -> None:
        """The master key and what applications are told from all, what witnesses ask for from all but the keeper."""
        tokens = [] if role == "keeper" else [each.token for each in self._settings.audit.witnesses]
        for source in (self._settings.master_key, *tokens):
            if source is not None and source.env is not None:
                environment.pop(source.env, None)
        for place in self._header_secrets:
            kind, _, name = place.partition(":")
            if kind == "env":
                environment.pop(name, None)

    def _read_certificates(self, configuration: Configuration) -> list[Certificate]:
        settings = configuration.settings
        if settings.tls.local_ca:
            names = certificate_names(configuration)
            return [issue(settings.state_dir, names, self._keyring.load("tls"), self._clock, self._entropy)]
        certificates = read_certificates(settings)
        for is_warning, remark in remarks(settings, certificates, self._clock.now()):
            log.log(logging.WARNING if is_warning else logging.INFO, "tls.certificates: %s", remark)
        return certificates

    def _read_upstream_certificate(self) -> Certificate | None:
        named = self._settings.tls.upstream_certificate
        if named is None:
            return None
        try:
            certificate = Certificate(named.certificate.read_bytes(), named.private_key.read_bytes())
            client_context(own=certificate)
        except OSError as error:
            raise GatewayError(f"tls.upstream_certificate: {error.filename}: {error.strerror}") from error
        except GatewayError as error:
            raise GatewayError(f"tls.upstream_certificate: {error}") from error
        return certificate


class StateLock:
    """Only one gateway, or one command without a gateway, works on a `state_dir` at a time, which it furnishes.

    Two files, since whoever has an open file releases its lock (flock(2)): the first is no child's to release, and the
    second is the keeper's, which thereby outlives us.
    """

    def __init__(self, state_dir: Path, who: Identities | None = None) -> None:
        self._state_dir, self._who = state_dir, who
        self._files = ExitStack()
        self.held: dict[str, _Descriptor] = {}
        """`lock` is what the keeper is given."""

    def __enter__(self) -> Self:
        if self._who is None:
            self._refuse_root()
        with self._files:
            self.held = {"lock/supervisor": self._lock(LOCK), "lock": self._lock(KEEPER_LOCK)}
            furnish(self._state_dir, self._who)
            self._files = self._files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def _lock(self, name: Path) -> _Descriptor:
        path = self._state_dir / name
        try:
            for folder in (self._state_dir, path.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise GatewayError(f"state_dir: {error.filename} can't be used: {error.strerror}") from error
        self._files.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GatewayError(f"another gateway is working on {self._state_dir}") from None
        return _Descriptor(descriptor)

    def _refuse_root(self) -> None:
        """What root writes here, the gateway's own user could not read any more, and would not start."""
        folder = self._state_dir
        if os.geteuid() == 0 and folder.exists() and (owner := folder.stat().st_uid) != 0:
            raise GatewayError(f"{folder} belongs to {user_name(owner)}: run this as that user, not as root")


def open_keyring(settings: Settings, clock: Clock, entropy: Entropy) -> Keyring:
    return Keyring(settings.state_dir / "keys", master_key(settings).reveal(), clock, entropy)


def worker_count(settings: Settings) -> int:
    return len(os.sched_getaffinity(0)) if settings.workers == "auto" else settings.workers


def certificate_names(configuration: Configuration) -> list[str]:
    """Every host that is served: each application's own, and the domain with one level below it.

    The hosts stand there by name as well: under a domain of one label, like `localhost`, clients take no wildcard.
    """
    domain = configuration.settings.domain
    hosts = [each.host.replace("{tenant}", "*") for each in configuration.policy.applications.values()]
    return list(dict.fromkeys([domain, f"*.{domain}", *hosts]))


def _listen_to_clients(settings: Settings, stack: ExitStack) -> dict[str, socket.socket]:
    """Those that systemd passed as they are, one for all workers; of the others, one for each worker."""
    shared = settings.listen.of_workers
    wanted = {**shared, "ops": settings.listen.ops}
    passed = activation.take(os.environ, wanted)
    for each in passed.values():
        stack.enter_context(each)
    for name in shared.keys() - passed.keys():
        _refuse_taken(f"listen.{name}", wanted[name])
    listening = {
        f"{name}/{slot}": passed.get(name) or stack.enter_context(_listen(f"listen.{name}", wanted[name], shared=True))
        for slot in range(worker_count(settings))
        for name in shared
    }
    listening["ops"] = passed.get("ops") or stack.enter_context(_listen("listen.ops", wanted["ops"], shared=False))
    return listening


def _listen(setting: str, address: ListenAddress, *, shared: bool) -> socket.socket:
    """`shared`: one of several sockets on this address, between which the kernel spreads connections."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise GatewayError(f"{setting}: {address} can't be used: {error.strerror}") from error
    return listening


def _refuse_taken(setting: str, address: ListenAddress) -> None:
    """With SO_REUSEPORT alone a second gateway of the same user would be let in and take half of the connections."""
    _listen(setting, address, shared=False).close()


def _listen_unix(path: Path, mode: int) -> socket.socket:
    """`mode` says who may connect: to write it is to connect (unix(7))."""
    if len(os.fsencode(path)) > 107:
        raise GatewayError(f"state_dir is too long: the socket {path} may have 107 characters (unix(7))")
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(mode)
    listening.listen(BACKLOG)
    return listening
