"""A certificate that every measured server uses, so that none does other work in the handshake."""

from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "orders.btb.localhost"


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: Path
    private_key: Path


def certificate(folder: Path) -> Certificate:
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(made.chain, append=True)
    issued.private_key_pem.write_to_path(made.private_key)
    return made
