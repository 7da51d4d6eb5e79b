"""Values that everyone shares: who asks, what time it is, what went wrong, what must stay secret.

Nouns: `Principal` (who a request comes from), `Grant` (a role held at a tenant), `Clock` and `Entropy` (the outside
world as arguments), `Secret` (a value that never prints itself), `Problem` (one mistake in a file, with its place).
Nothing here knows of HTTP, SQL, policy or processes.
"""
