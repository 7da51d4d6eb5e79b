"""Apache with mod_auth_openidc as a gateway: TLS, a JWT verified on every request, a claim required, an access log.

Fair: the module takes the JWT from a cookie and verifies it with a key that it has (`AuthType oauth20`), so that it
asks nobody else; HS256 as in haproxy.py. One process of the event MPM, with a thread for each connection, so that those
to the application are kept too; only the modules that this takes.
"""

import os
import secrets
from pathlib import Path
from string import Template

from tests.bench import tokens
from tests.bench.certificate import CIPHERS, HOST, SUITES, Certificate
from tests.bench.running import PROXY_CORE, Running, start, wait_until_listening
from tests.ports import free_port

PROGRAM = "/usr/sbin/apache2"
MODULE = Path("/usr/lib/apache2/modules/mod_auth_openidc.so")
_MODULES = (
    "mpm_event authn_core authz_core authz_user headers unique_id proxy proxy_http socache_shmcb ssl auth_openidc"
)
_CONFIGURATION = """
ServerRoot $folder
ServerName $host
PidFile $folder/apache.pid
DefaultRuntimeDir $folder
Mutex posixsem
ErrorLog $folder/error.log
LogLevel warn
$user
$modules
Listen 127.0.0.1:$port
ServerLimit 1
StartServers 1
ThreadLimit 256
ThreadsPerChild 256
MaxRequestWorkers 256
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
Timeout 600
LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined
CustomLog $folder/access.log combined

SSLEngine on
SSLCertificateFile $chain
SSLCertificateKeyFile $private_key
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLCipherSuite $ciphers
SSLCipherSuite TLSv1.3 $suites
SSLSessionCache none

OIDCOAuthVerifySharedKeys plain#$key_id#$secret
OIDCOAuthAcceptTokenAs cookie:$cookie
OIDCOAuthRemoteUserClaim sub

<Location />
  AuthType oauth20
  Require all denied
</Location>
<Location /t/acme/orders/>
  <RequireAll>
    Require method GET
    Require claim iss:$issuer
    Require claim aud:$audience
    Require claim tenant:acme
  </RequireAll>
</Location>

RequestHeader set X-Forwarded-Proto https
RequestHeader set X-Request-Id %{UNIQUE_ID}e
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:$upstream/ enablereuse=on keepalive=On
"""


def start_apache(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    folder.mkdir()
    port, secret, other = free_port(), secrets.token_hex(16), secrets.token_hex(16)
    modules = "\n".join(f"LoadModule {name}_module {MODULE.parent}/mod_{name}.so" for name in _MODULES.split())
    # Started by root, workers have to be somebody who may write here.
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    given = {"folder": folder, "port": port, "host": HOST, "upstream": upstream_port, "modules": modules, "user": user}
    given |= {"chain": tls.chain, "private_key": tls.private_key, "ciphers": CIPHERS, "suites": SUITES}
    given |= {"key_id": tokens.KEY_ID, "secret": secret, "cookie": tokens.COOKIE}
    given |= {"issuer": tokens.ISSUER, "audience": tokens.AUDIENCE}
    configuration, log = folder / "apache.conf", folder / "apache.log"
    configuration.write_text(Template(_CONFIGURATION).substitute(given))
    process = start(PROXY_CORE, [PROGRAM, "-D", "FOREGROUND", "-f", str(configuration)], log)
    wait_until_listening(process, port, log)
    return Running(
        "apache", process, port, HOST, tokens.good(secret, "HS256"), refused=tokens.bad(secret, other, "HS256")
    )
