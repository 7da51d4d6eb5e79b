"""The certificates that the settings name: read, held against their keys, and what an operator should know of them.

A certificate that has expired is served all the same: every client refuses it by itself, and a gateway that doesn't
start helps nobody. So it is said when they are read, by `check`, and by a metric.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from gateway.config.schema import Settings
from gateway.foundation.errors import GatewayError, InvalidFile, Problem
from gateway.proxy.tls import Certificate, ServerTls, describe

SOON_SECONDS = 14 * 86_400
"""From here on it is a warning, as in deploy/prometheus/alerts.yml."""
_RENEW = "replace the file, then `btb-gateway reload`"
_EARLY = "is this machine's clock right? Clients refuse it until then"
_ROOT = "a root that clients know has signed it"
_HINT = "put certificate and key in their places, the certificate first in its file and its intermediates behind it"


def read_certificates(settings: Settings) -> list[Certificate]:
    """Those of `tls.certificates`. Raises InvalidFile with every one that can't be served."""
    problems: list[Problem] = []
    found = [
        _read(each.certificate, each.private_key, f"tls.certificates[{number}]", problems)
        for number, each in enumerate(settings.tls.certificates)
    ]
    if problems:
        raise InvalidFile(problems)
    return [each for each in found if each is not None]


def first_end(certificates: Sequence[Certificate]) -> float:
    """Unix time at which the first of them is over."""
    return min(describe(each.chain).ends for each in certificates)


def remarks(settings: Settings, certificates: Sequence[Certificate], now: float) -> Iterator[tuple[bool, str]]:
    """One line for each of `tls.certificates`, and whether it is a warning."""
    for named, certificate in zip(settings.tls.certificates, certificates, strict=True):
        found = describe(certificate.chain)
        days = (found.ends - now) / 86_400
        if found.ends <= now:
            yield True, f"{named.certificate} expired on {_day(found.ends)}: clients refuse it; {_RENEW}"
        elif found.begins > now:
            yield True, f"{named.certificate} is good from {_day(found.begins)} on only: {_EARLY}"
        elif found.ends - now < SOON_SECONDS:
            yield True, f"{named.certificate} expires on {_day(found.ends)}, in {days:.0f} days: {_RENEW}"
        else:
            yield False, f"{named.certificate} is good until {_day(found.ends)}, for {', '.join(found.names)}"
        if found.is_leaf_alone:
            yield False, f"{named.certificate} holds no intermediate: right only if {_ROOT}"


def _read(chain: Path, key: Path, place: str, problems: list[Problem]) -> Certificate | None:
    try:
        certificate = Certificate(chain.read_bytes(), key.read_bytes())
        describe(certificate.chain)
        ServerTls([certificate])
    except OSError as error:
        problems.append(Problem(f"{error.filename}: {error.strerror}", place))
    except GatewayError as error:
        problems.append(Problem(f"{chain} with {key}: {error}", place, _HINT))
    else:
        return certificate
    return None


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%MZ}"
