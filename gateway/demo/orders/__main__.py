"""`python -m gateway.demo.orders`"""

from gateway.demo.orders.app import NAME, application
from gateway.demo.web.server import run
from gateway.foundation.clock import SystemClock

run(NAME, lambda verifier: application(verifier, SystemClock()))
