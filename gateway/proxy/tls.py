"""TLS contexts of both sides, and the proof that they are what we say.

Law: TLS 1.2 and 1.3, only suites with 256-bit keys and forward secrecy, no CBC, groups X25519, P-256 and P-384. The
suites of TLS 1.3 and the groups come from the file that OPENSSL_CONF names, which OpenSSL ignores in silence when it
can't be read: so `prove()` offers a server only what it must refuse, and a process that fails it does not serve.
"""

import os
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.foundation.errors import GatewayError

OPENSSL_CONF = Path(__file__).with_name("openssl.cnf")
CIPHERS = ":".join(
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
     "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
)  # fmt: skip
SUITES = frozenset((*CIPHERS.split(":"), "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
"""By name, those of TLS 1.3 included: nothing else may be offered."""
TLS_AES_128_GCM, TLS_AES_256_GCM = 0x1301, 0x1302
X25519, P521 = 0x001D, 0x0019


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A chain and its private key, both PEM."""

    chain: bytes
    private_key: bytes


@dataclass(frozen=True, slots=True)
class ChainDescription:
    names: tuple[str, ...]
    """DNS names of the leaf, in lower case."""
    begins: float
    ends: float
    """Unix times: the chain is good while every certificate in it is."""
    is_leaf_alone: bool
    """No intermediate came with it."""


class ServerTls:
    """The contexts of a listener, swapped whole when certificates change; the client's server name chooses."""

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        self._by_name: dict[str, ssl.SSLContext] = {}
        self.context = self._contexts(certificates)

    def _contexts(self, certificates: Sequence[Certificate]) -> ssl.SSLContext:
        contexts = [_server_context(certificate) for certificate in certificates]
        for certificate, context in zip(certificates, contexts, strict=True):
            for name in certificate_names(certificate.chain):
                self._by_name.setdefault(name, context)
        for context in contexts:
            context.sni_callback = self._on_server_name
        return contexts[0]

    def _on_server_name(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name is None or name.replace(".", "").isdigit() or ":" in name:
            # An address is no server name (RFC 6066 3): some clients send one, and it means nothing.
            return
        name = name.lower()
        # Kept for the check of RFC 9110 7.4: a request must be for the host that the connection was made to.
        tls.gateway_server_name = name  # type: ignore[union-attr]  # SSLObject is a plain class and takes attributes.
        wildcard = "*." + name.partition(".")[2]
        context = self._by_name.get(name) or self._by_name.get(wildcard)
        if context is not None:
            tls.context = context


def server_name(transport_tls: object) -> str | None:
    """The server name that the client sent (RFC 6066 3), in lower case; None without one."""
    return getattr(transport_tls, "gateway_server_name", None)


def certificate_names(chain: bytes) -> list[str]:
    """DNS names of the leaf certificate, in lower case; raises GatewayError if it can't be read."""
    return list(describe(chain).names)


def describe(chain: bytes) -> ChainDescription:
    """What a chain (PEM, the leaf first) says of itself; raises GatewayError if it can't be read."""
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(chain)
        leaf = certificates[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise GatewayError(f"the certificate can't be used: {error}") from error
    return ChainDescription(
        names=tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        begins=max(each.not_valid_before_utc.timestamp() for each in certificates),
        ends=min(each.not_valid_after_utc.timestamp() for each in certificates),
        is_leaf_alone=len(certificates) == 1 and leaf.issuer != leaf.subject,
    )


def _server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate)
    return context


def client_context(extra_roots: Path | None = None) -> ssl.SSLContext:
    """For connections to upstreams: certificates are always verified."""
    context = ssl.create_default_context()
    _restrict(context)
    if extra_roots is not None:
        context.load_verify_locations(cafile=extra_roots)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """The private key never touches a disk in clear: OpenSSL reads both from memory files."""
    if b"ENCRYPTED" in certificate.private_key:
        # OpenSSL would ask whoever sits at the terminal for the passphrase, and wait.
        raise GatewayError("the private key is encrypted: write it without a passphrase (openssl pkey -in … -out …)")
    descriptors = []
    try:
        for name, content in (("chain", certificate.chain), ("key", certificate.private_key)):
            descriptors.append(descriptor := os.memfd_create(name, os.MFD_CLOEXEC))
            os.write(descriptor, content)
        context.load_cert_chain(*(f"/proc/self/fd/{descriptor}" for descriptor in descriptors))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise GatewayError("the private key can't be used: it belongs to another certificate") from error
        raise GatewayError(f"certificate or private key can't be used: {error.reason or 'one is not PEM'}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def prove(context: ssl.SSLContext) -> None:
    """Raise GatewayError unless this server refuses what it must, and takes what it should."""
    weak = [cipher["name"] for cipher in context.get_ciphers() if cipher["name"] not in SUITES]
    if weak:
        raise GatewayError(f"TLS would offer {', '.join(weak)}: OPENSSL_CONF is not in force")
    if not _answers(context, TLS_AES_256_GCM, X25519):
        raise GatewayError("TLS refuses TLS_AES_256_GCM_SHA384 with X25519: the OpenSSL configuration is wrong")
    if _answers(context, TLS_AES_128_GCM, X25519):
        raise GatewayError("TLS accepts AES-128: OPENSSL_CONF is not in force")
    if _answers(context, TLS_AES_256_GCM, P521):
        raise GatewayError("TLS accepts the group P-521: OPENSSL_CONF is not in force")


def _answers(context: ssl.SSLContext, suite: int, group: int) -> bool:
    """Whether the server goes on with a client that offers this suite and group alone."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(client_hello(suite, group))
    with suppress(ssl.SSLError):
        server.do_handshake()
    answer = outgoing.read()
    return answer[:1] == b"\x16"  # 0x16: handshake, RFC 8446 5.1; a refusal is an alert, 0x15.


def client_hello(suite: int, group: int) -> bytes:
    """A TLS 1.3 ClientHello (RFC 8446 4.1.2) that offers one suite and one group, with no key share yet."""

    def sized(content: bytes, width: str = ">H") -> bytes:
        return struct.pack(width, len(content)) + content

    def extension(kind: int, content: bytes) -> bytes:
        return struct.pack(">H", kind) + sized(content)

    signatures = b"".join(struct.pack(">H", s) for s in (0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0401))
    extensions = b"".join(
        (
            extension(10, sized(struct.pack(">H", group))),
            extension(13, sized(signatures)),
            extension(43, b"\x02\x03\x04"),
            extension(51, sized(b"")),
        )
    )
    body = b"\x03\x03" + bytes(32) + b"\x00" + sized(struct.pack(">H", suite)) + b"\x01\x00" + sized(extensions)
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + sized(handshake)
