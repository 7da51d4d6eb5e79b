"""Exit 0 if the gateway of this container answers `/healthz`; for HEALTHCHECK."""

import http.client
import os
import ssl
import sys

# The question stays inside the container, says nothing, and its answer decides about a restart only: whose certificate
# answers doesn't matter here, and it names the public hosts, not 127.0.0.1.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE

connection = http.client.HTTPSConnection(
    "127.0.0.1", int(os.environ.get("BTB_OPS_PORT", "9464")), timeout=3, context=context
)
try:
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"/healthz: {error}")
sys.exit(0 if status == http.client.OK else f"/healthz: {status}")
