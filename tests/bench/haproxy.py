"""HAProxy as a gateway: TLS, a JWT verified on every request, the customer in its claims compared, an access log.

Fair: these are the lines that HAProxy's own documentation has for a gateway of APIs, with one thread as everybody has,
and connections to the application shared and kept. HS256 is the cheapest signature that it knows.
"""

import secrets
from pathlib import Path
from string import Template

from tests.bench import tokens
from tests.bench.certificate import CIPHERS, HOST, SUITES, Certificate
from tests.bench.running import PROXY_CORE, Running, start, wait_until_listening
from tests.ports import free_port

PROGRAM = "/usr/sbin/haproxy"
_COMMON = """
global
  nbthread 1
  maxconn 4096
  log stdout format raw daemon
  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-default-bind-ciphers $ciphers
  ssl-default-bind-ciphersuites $suites

defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
$sections
"""
_VERIFY = """
  http-request set-var(txn.token) req.cook(session)
  http-request set-var(txn.algorithm) var(txn.token),jwt_header_query('$$.alg')
  http-request set-var(txn.issuer) var(txn.token),jwt_payload_query('$$.iss')
  http-request set-var(txn.audience) var(txn.token),jwt_payload_query('$$.aud')
  http-request set-var(txn.tenant) var(txn.token),jwt_payload_query('$$.tenant')
  http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless { var(txn.algorithm) -m str HS256 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_verify(txn.algorithm,"$secret") 1 }
  http-request deny deny_status 401 unless { var(txn.issuer) -m str $issuer } { var(txn.audience) -m str $audience }
  http-request deny deny_status 401 if { var(txn.expires),sub(txn.now) lt 0 }
"""
_CUSTOMER = "{ var(txn.tenant) -m str acme }"
_GATEWAY = """
frontend gateway
  bind 127.0.0.1:$port ssl crt $certificate
  log global
  option httplog
$verify
  http-request deny deny_status 403 unless METH_GET { path_beg /t/acme/orders/ } $customer
  http-request set-header X-Gateway-Tenant %[var(txn.tenant)]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Request-Id %[uuid]
  default_backend application

backend application
  http-reuse always
  server application 127.0.0.1:$upstream
"""
_AUTHORITY = """
frontend authority
  bind unix@$socket mode 666
$verify
  http-request set-var(txn.method) req.hdr(X-Original-Method)
  http-request deny deny_status 403 unless { var(txn.method) -m str GET } { path_beg /t/acme/orders/ } $customer
  http-request return status 200 hdr X-Tenant %[var(txn.tenant)]
"""


def start_haproxy(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    port = free_port()
    given = {"port": port, "certificate": tls.both, "upstream": upstream_port}
    return _start("haproxy", folder, port, Template(_GATEWAY), given)


def start_authority(folder: Path, socket: Path) -> Running:
    """For somebody who asks it about each request; nothing in its log."""
    return _start("authority", folder, socket, Template(_AUTHORITY), {"socket": socket})


def _start(name: str, folder: Path, at: int | Path, sections: Template, given: dict[str, object]) -> Running:
    folder.mkdir()
    secret, other = secrets.token_hex(32), secrets.token_hex(32)
    verify = Template(_VERIFY).substitute(secret=secret, issuer=tokens.ISSUER, audience=tokens.AUDIENCE)
    common = {
        "ciphers": CIPHERS,
        "suites": SUITES,
        "sections": sections.substitute(given, verify=verify, customer=_CUSTOMER),
    }
    configuration, log = folder / "haproxy.cfg", folder / "haproxy.log"
    configuration.write_text(Template(_COMMON).substitute(common))
    process = start(PROXY_CORE, [PROGRAM, "-db", "-f", str(configuration)], log)
    wait_until_listening(process, at, log)
    port = at if isinstance(at, int) else 0
    return Running(name, process, port, HOST, tokens.good(secret, "HS256"), refused=tokens.bad(secret, other, "HS256"))
