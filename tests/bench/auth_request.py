"""nginx with `auth_request`: another server is asked about each request, over kept connections on a Unix socket, and
the processor time of both is counted.

Fair: these are the lightest servers that could be found in Debian, and they get none of the browser's headers but its
cookies, which spares a sixth of the whole. The first looks an opaque token up in a table of a thousand, in nginx's own
hash: no server could do less, and this one can't sign anybody in or out without a reload. The second is HAProxy, and
verifies a JWT as in haproxy.py. nginx's own JavaScript (njs), verifying the same JWT, takes a sixth more than that.
"""

import secrets
from dataclasses import replace
from pathlib import Path
from string import Template

from tests.bench.certificate import Certificate
from tests.bench.haproxy import start_authority
from tests.bench.nginx import start_proxy, start_server
from tests.bench.running import PROXY_CORE, Running

_UPSTREAMS = "  upstream authority { server unix:$socket; keepalive 128; keepalive_requests 1000000000; }"
_ASKED = """
      auth_request /.authority;
      auth_request_set $tenant $upstream_http_x_tenant;
      proxy_set_header X-Gateway-Tenant $tenant;
"""
_LOCATION = """
    location = /.authority {
      internal;
      proxy_pass http://authority$request_uri;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_pass_request_headers off;
      proxy_set_header Connection "";
      proxy_set_header Cookie $http_cookie;
      proxy_set_header X-Original-Method $request_method;
    }
"""
_TABLE = """
  access_log off;
  map_hash_max_size 16384;
  map_hash_bucket_size 128;
  map $$cookie_session $$tenant {
    default "";
    "$token" acme;
    "$globex" globex;
$others
  }
  map "$$tenant:$$http_x_original_method:$$request_uri" $$answer {
    default 403;
    "~^acme:GET:/t/acme/orders/" 200;
    "~^:" 401;
  }
  server {
    listen unix:$socket;
    location / {
      if ($$answer = 401) { return 401; }
      if ($$answer = 403) { return 403; }
      add_header X-Tenant $$tenant;
      return 200;
    }
  }
"""


def start_session_table(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    folder.mkdir()
    token, globex, *others = (secrets.token_urlsafe(32) for _ in range(1000))
    lines = "\n".join(f'    "{other}" other;' for other in others)
    given = {"socket": folder / "socket", "token": token, "globex": globex, "others": lines}
    (folder / "table").mkdir()
    table = start_server("table", folder / "table", PROXY_CORE, folder / "socket", Template(_TABLE).substitute(given))
    refused = ("session=", "session=forged", f"session={globex}")
    table = replace(table, cookie=f"session={token}", refused=refused)
    return _asking("nginx auth_request (session table)", folder, upstream_port, tls, table)


def start_jwt(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    folder.mkdir()
    authority = start_authority(folder / "authority", folder / "socket")
    return _asking("nginx auth_request (JWT)", folder, upstream_port, tls, authority)


def _asking(name: str, folder: Path, upstream_port: int, tls: Certificate, authority: Running) -> Running:
    upstreams = Template(_UPSTREAMS).substitute(socket=folder / "socket")
    given = {"asked": _ASKED, "authority": _LOCATION, "upstreams": upstreams}
    server = start_proxy(name, folder / "nginx", upstream_port, tls, **given)
    return replace(server, cookie=authority.cookie, refused=authority.refused, more=(authority.process,))
