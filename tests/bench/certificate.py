"""A certificate that every measured server uses, so that none does other work in the handshake."""

from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "orders.btb.localhost"

CIPHERS = ":".join(f"ECDHE-ECDSA-{cipher}" for cipher in ("AES256-GCM-SHA384", "CHACHA20-POLY1305"))
SUITES = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""What servers are told to offer: 256 bits, as the gateway does. Envoy's library has no choice in TLS 1.3, and takes
what clients name first, which is the same; see `load.check`."""


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: Path
    private_key: Path
    both: Path
    """In one file."""


def certificate(folder: Path) -> Certificate:
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    made = Certificate(folder / "chain.pem", folder / "key.pem", folder / "both.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(made.chain, append=True)
    issued.private_key_pem.write_to_path(made.private_key)
    made.both.write_bytes(made.chain.read_bytes() + made.private_key.read_bytes())
    return made
