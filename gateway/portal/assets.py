"""The few static files, read once. Their addresses carry a hash of their content, so browsers may keep them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str


def _load() -> dict[str, Asset]:
    folder = files("gateway.portal") / "static"
    return {
        file.name: Asset(file.read_bytes(), _TYPES["." + file.name.rpartition(".")[2]])
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
    }


ASSETS: Mapping[str, Asset] = _load()
VERSION = hashlib.sha256(b"".join(asset.body for asset in ASSETS.values())).hexdigest()[:12]


def asset_path(name: str) -> str:
    """Under `/.gateway/`, the one prefix that leads here on every host: a page is styled by its own origin."""
    if name not in ASSETS:
        raise KeyError(name)
    return f"/.gateway/static/{VERSION}/{name}"
