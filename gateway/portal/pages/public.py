"""What anybody may fetch: the static files, and the keys that applications verify the assertion with."""

import json

from gateway.portal.answers import Answer, Document, Fault
from gateway.portal.assets import ASSETS, VERSION
from gateway.portal.services import Services
from gateway.portal.visit import Visit

KEY_SECONDS = 60
"""How long the key document may be kept: as long as an assertion lives, so that a verifier which keeps it never holds
a dropped key for longer than what that key signed. A `kid` that is not in it is a reason to fetch it again."""


async def static(_services: Services, visit: Visit) -> Answer:
    asset = ASSETS.get(visit.segments["name"])
    if asset is None:
        return Fault(404)
    # A page of the version before may ask while processes are replaced: it gets today's file, but not for a year.
    current = visit.segments["version"] == VERSION
    kept = "public, max-age=31536000, immutable" if current else "no-cache"
    return Document(asset.body, asset.content_type, headers={"Cache-Control": kept})


async def jwks(services: Services, _visit: Visit) -> Answer:
    return Document(
        json.dumps(services.jwks).encode(),
        "application/jwk-set+json; charset=utf-8",
        headers={"Cache-Control": f"public, max-age={KEY_SECONDS}"},
    )
