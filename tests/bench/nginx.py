"""nginx twice: the application behind everything that is measured, and the proxy that others are compared with."""

import os
from pathlib import Path
from string import Template

from tests.bench.certificate import HOST, Certificate
from tests.bench.running import LOAD_CORE, PROXY_CORE, Running, start, wait_until_listening
from tests.ports import free_port

PROGRAM = "/usr/sbin/nginx"
BODY = b'{"number": 7, "state": "delivered", "total": "604.80"}'.ljust(256)

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
    location / { default_type application/json; add_header Cache-Control no-store; return 200 '$body'; }
  }
"""
_PROXY = """
  access_log $folder/access.log combined;
  upstream application { server 127.0.0.1:$upstream; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:$port ssl;
    ssl_certificate $chain;
    ssl_certificate_key $private_key;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $$host;
      proxy_set_header X-Forwarded-For $$remote_addr;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $$host;
      proxy_set_header X-Request-Id $$request_id;
    }
  }
"""


def start_application(folder: Path) -> Running:
    port = free_port()
    return _start("application", folder, LOAD_CORE, port, _fill(_APPLICATION, port=port, body=BODY.decode()))


def start_nginx(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    """A bare TLS proxy: connections to the application kept, every request in the access log."""
    port = free_port()
    server = _fill(
        _PROXY, folder=folder, port=port, upstream=upstream_port, chain=tls.chain, private_key=tls.private_key
    )
    return _start("nginx", folder, PROXY_CORE, port, server)


def _start(name: str, folder: Path, core: int, port: int, server: str) -> Running:
    folder.mkdir()
    # Started by root, workers would become nobody, and could not write here.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration, log = folder / "nginx.conf", folder / "nginx.log"
    configuration.write_text(_fill(_COMMON, folder=folder, server=server, user=user))
    process = start(core, [PROGRAM, "-p", str(folder), "-c", str(configuration)], log)
    wait_until_listening(process, port, log)
    return Running(name, process, port, HOST)


def _fill(template: str, **values: object) -> str:
    return Template(template).substitute(values)
