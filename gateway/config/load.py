"""From the path of a file to what it says, and from a secret's source to the secret."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from gateway.config.check import validate
from gateway.config.document import Document
from gateway.config.parse import parse_yaml
from gateway.config.read import host_name, read_secret, read_text
from gateway.config.schema import SecretSource, Settings
from gateway.foundation.errors import GatewayError
from gateway.foundation.secret import Secret

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LoadedFile(Generic[Model]):
    """What a file says, with the text it was read from: what is checked is what is recorded and put in force."""

    path: Path
    content: Model
    text: str
    digest: str
    """SHA-256 of the text, hexadecimal."""
    document: Document
    """Puts places to problems that are found later."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force."""

    path: Path
    settings: Settings
    text: str
    digest: str


def load_file(path: Path, model: type[Model]) -> LoadedFile[Model]:
    """Paths in the file count from its folder. Raises InvalidFile with every problem."""
    path = Path(os.path.abspath(path))
    text = read_text(path)
    document = parse_yaml(text, str(path))
    content = validate(document, model, {"folder": path.parent})
    return LoadedFile(path, content, text, hashlib.sha256(text.encode()).hexdigest(), document)


def load_settings(path: Path) -> Loaded:
    """The settings, complete. Raises InvalidFile with every problem."""
    file = load_file(path, Settings)
    settings = file.content.model_copy(update={"node": file.content.node or host_name()})
    return Loaded(file.path, settings, file.text, file.digest)


def resolve_secret(source: SecretSource, environment: Mapping[str, str] = os.environ) -> Secret[bytes]:
    """Raises GatewayError, which names the place and never the content."""
    if source.file is not None:
        return Secret(read_secret(source.file))
    value = environment.get(source.env or "", "")
    if not value:
        raise GatewayError(f"the environment variable {source.env} is not set: it should hold a secret")
    return Secret(value.encode())


def master_key(settings: Settings, environment: Mapping[str, str] = os.environ) -> Secret[bytes]:
    """Raises GatewayError. A link that leads from elsewhere into state_dir is refused like a file in it."""
    file = settings.master_key.file
    if file is not None and file.resolve().is_relative_to(settings.state_dir.resolve()):
        raise GatewayError(f"the master key {file} leads into the state folder {settings.state_dir}: keep it elsewhere")
    return resolve_secret(settings.master_key, environment)
