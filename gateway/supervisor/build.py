"""Settings and policy into one configuration. The same code checks a file, starts the gateway and prepares a reload.

Law: `read_configuration` is all or nothing, and tells every problem of both files at once; a policy whose own tests
fail is a problem like any other. Processes get the texts that were checked, never the files again.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.check import validate
from gateway.config.document import Document
from gateway.config.load import load_settings, resolve_secret
from gateway.config.parse import parse_yaml
from gateway.config.read import read_text
from gateway.config.schema import SecretSource, Settings
from gateway.foundation.errors import GatewayError, InvalidFile, Problem
from gateway.foundation.secret import Secret
from gateway.policy.cases import run_cases
from gateway.policy.compile import InvalidPolicy, compile_policy
from gateway.policy.headers import SecretOf
from gateway.policy.match import Policy
from gateway.policy.own import own_application
from gateway.policy.schema import PolicyFile
from gateway.portal import RULES
from gateway.proxy.service import Snapshot

PORTAL_SOCKET = Path("run/portal.sock")
KEEPER_SOCKET = Path("run/keeper.sock")


@dataclass(frozen=True, slots=True)
class Configuration:
    """One version of settings and policy, checked and compiled."""

    settings_path: Path
    settings_text: str
    settings: Settings
    policy_text: str
    policy: Policy
    header_secrets: Mapping[str, Secret[str]]
    """What the policy has applications told, by place (`file:/…`, `env:NAME`), as it was when the files were read."""

    @property
    def digest(self) -> str:
        """Of both files: what records and metrics name it by."""
        return hashlib.sha256(f"{self.settings_text}\0{self.policy_text}".encode()).hexdigest()[:16]

    @property
    def public_port(self) -> int:
        return self.settings.public_port or self.settings.listen.https.port

    def snapshot(self, version: int) -> Snapshot:
        return Snapshot(version, self.digest, self.policy, self.settings.domain, self.public_port)

    def as_message(self) -> dict[str, Any]:
        return {
            "settings_path": str(self.settings_path),
            "settings_text": self.settings_text,
            "policy_text": self.policy_text,
            "node": self.settings.node,
        }


def read_configuration(path: Path) -> Configuration:
    """The only one that reads the files. Raises InvalidFile with every problem of both."""
    problems: list[Problem] = []
    try:
        loaded = load_settings(path)
    except InvalidFile as error:
        raise InvalidFile([*error.problems, *_policy_problems_beside(path)]) from error
    settings = loaded.settings
    policy_text = read_text(settings.policy)
    secrets: dict[str, Secret[str]] = {}
    policy = build_policy(policy_text, settings, problems, _reading(settings.policy.parent, secrets))
    if problems or policy is None:
        raise InvalidFile(problems)
    return Configuration(loaded.path, loaded.text, settings, policy_text, policy, secrets)


def _reading(folder: Path, read: dict[str, Secret[str]]) -> SecretOf:
    """Reads secrets, and notes what they were: processes get what was checked."""

    def secret_of(kind: str, place: str) -> str:
        try:
            source = SecretSource.model_validate({kind: place}, context={"folder": folder})
            text = resolve_secret(source).reveal().decode("ascii")
        except ValidationError:
            raise ValueError(
                f"{kind}: is no place of a secret: name a file, or a variable of the environment"
            ) from None
        except UnicodeDecodeError:
            raise ValueError("the secret is no value of a header: it has other characters than ASCII's") from None
        except GatewayError as error:
            raise ValueError(str(error)) from None
        read[f"{kind}:{place}"] = Secret(text)
        return text

    return secret_of


def _given(message: dict[str, Any]) -> SecretOf | None:
    """A worker's message has them, and nobody else's."""
    secrets = message.get("header_secrets")
    if secrets is None:
        return None

    def secret_of(kind: str, place: str) -> str:
        if (text := secrets.get(f"{kind}:{place}")) is None:
            raise ValueError(f"{kind}: the secret there was not handed on")
        return str(text)

    return secret_of


def from_message(message: dict[str, Any]) -> Configuration:
    """In a child: from the texts that the master has checked."""
    path = Path(message["settings_path"])
    document = parse_yaml(message["settings_text"], str(path))
    settings = validate(document, Settings, {"folder": path.parent})
    settings = settings.model_copy(update={"node": message["node"]})
    problems: list[Problem] = []
    secret_of = _given(message)
    policy = build_policy(message["policy_text"], settings, problems, secret_of, run_tests=False)
    if policy is None:
        raise InvalidFile(problems)
    secrets = {place: Secret(text) for place, text in message.get("header_secrets", {}).items()}
    return Configuration(path, message["settings_text"], settings, message["policy_text"], policy, secrets)


def build_policy(
    text: str,
    settings: Settings,
    problems: list[Problem],
    secret_of: SecretOf | None = None,
    *,
    run_tests: bool = True,
) -> Policy | None:
    """Compile the policy and run its own tests; what is wrong is added to `problems`. Without `secret_of`, it is
    good for anything but for forwarding."""
    document = parse_yaml(text, str(settings.policy))
    try:
        file = validate(document, PolicyFile, {"secret_of": secret_of})
        own_hosts = frozenset({settings.login_host, settings.account_host, settings.admin_host})
        portal = own_application(settings.login_host, f"unix:{settings.state_dir / PORTAL_SOCKET}", RULES)
        policy = compile_policy(file, (portal,), own_hosts)
    except InvalidPolicy as error:
        problems += [document.locate(problem) for problem in error.problems]
        return None
    except InvalidFile as error:
        problems += error.problems
        return None
    if run_tests:
        problems += _failures(policy, file, document)
    return None if problems else policy


def _failures(policy: Policy, file: PolicyFile, document: Document) -> Iterator[Problem]:
    for failure in run_cases(policy, file.tests):
        yield document.locate(failure.problem)


def _policy_problems_beside(settings_path: Path) -> list[Problem]:
    """With broken settings: what is wrong with the policy at its usual place, so that nobody is told in two rounds."""
    path = Path(os.path.abspath(settings_path)).with_name("policy.yaml")
    if not path.exists():
        return []
    try:
        document = parse_yaml(read_text(path), str(path))
        file = validate(document, PolicyFile)
    except InvalidFile as error:
        return error.problems
    try:
        compile_policy(file)
    except InvalidPolicy as error:
        return [document.locate(problem) for problem in error.problems]
    return []
