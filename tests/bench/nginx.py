"""nginx: the application behind everything that is measured, the proxy that others are compared with, and the same with
somebody else to ask about each request.

Fair: one process as everybody has, connections to the application kept, every request in the access log, no temporary
files between a fast application and a client (nothing else needs the disk for a download). Else as Debian has it.
"""

import os
from pathlib import Path
from string import Template

from tests.bench.certificate import CIPHERS, HOST, SUITES, Certificate
from tests.bench.running import LOAD_CORE, PROXY_CORE, Running, start, wait_until_listening
from tests.ports import free_port

PROGRAM = "/usr/sbin/nginx"
BODY = b'{"number": 7, "state": "delivered", "total": "604.80"}'.ljust(256)
LARGE = "/t/acme/orders/large"
LARGE_BYTES = 10_000_000

_COMMON = """
daemon off;
worker_processes 1;
pid $folder/nginx.pid;
error_log stderr warn;
$user
events { worker_connections 2048; }
http {
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
$server
}
"""
_APPLICATION = """
  access_log off;
  server {
    listen 127.0.0.1:$port reuseport;
    client_max_body_size 0;
    location / { default_type application/json; add_header Cache-Control no-store; return 200 '$body'; }
    location = $large { alias $folder/large; sendfile on; }
  }
"""
_PROXY = """
  access_log $folder/access.log combined;
  proxy_max_temp_file_size 0;
  upstream application { server 127.0.0.1:$upstream; keepalive 128; keepalive_requests 1000000000; }
$upstreams
  server {
    listen 127.0.0.1:$port ssl;
    ssl_certificate $chain;
    ssl_certificate_key $private_key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers $ciphers;
    ssl_conf_command Ciphersuites $suites;
    location / {
$asked
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $$host;
      proxy_set_header X-Forwarded-For $$remote_addr;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $$host;
      proxy_set_header X-Request-Id $$request_id;
    }
$authority
  }
"""


def start_application(folder: Path, cores: str = LOAD_CORE) -> Running:
    port = free_port()
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(LARGE_BYTES))
    server = _fill(_APPLICATION, folder=folder, port=port, body=BODY.decode(), large=LARGE)
    return start_server("application", folder, cores, port, server)


def start_nginx(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    return start_proxy("nginx", folder, upstream_port, tls)


def start_proxy(name: str, folder: Path, upstream_port: int, tls: Certificate, **more: str) -> Running:
    """`asked` are lines of the location that is proxied, `authority` one of those beside it, `upstreams` of those
    outside."""
    folder.mkdir()
    port = free_port()
    given = {"folder": folder, "port": port, "upstream": upstream_port, "chain": tls.chain}
    given |= {"private_key": tls.private_key, "ciphers": CIPHERS, "suites": SUITES}
    server = _fill(_PROXY, **{"asked": "", "authority": "", "upstreams": ""} | given | more)
    return start_server(name, folder, PROXY_CORE, port, server)


def start_server(name: str, folder: Path, cores: str, at: int | Path, server: str) -> Running:
    # Started by root, workers would become nobody, and could not write here.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration, log = folder / "nginx.conf", folder / "nginx.log"
    configuration.write_text(_fill(_COMMON, folder=folder, server=server, user=user))
    process = start(cores, [PROGRAM, "-p", str(folder), "-c", str(configuration)], log)
    wait_until_listening(process, at, log)
    return Running(name, process, at if isinstance(at, int) else 0, HOST)


def _fill(template: str, **values: object) -> str:
    return Template(template).substitute(values)
