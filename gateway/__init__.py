"""BTB Gateway: a zero-trust authenticating reverse proxy.

Start reading at `gateway/proxy/exchange.py`: `handle()` is the whole story of a request.
"""

__version__ = "0.1.0"
