"""How a customer is named. Whether one of that name exists, only the store knows."""

import re

EVERY_CUSTOMER = "*"
"""In a grant: at every customer there is."""
NO_CUSTOMER = "-"
"""In a grant: at BTB's own applications, which belong to no customer. `*` does not include it."""

# One DNS label (RFC 1035, with the digits of RFC 1123), since a tenant may be a part of a host name.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_tenant_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None
