"""What must be remembered: people, tenants, grants, factors, sessions, service tokens. SQL, and nothing but SQL.

Nouns: `Store` (runs a piece of work as one transaction), `Reader` (the workers' own connection, which never writes),
`Change` (one step of the feed by which workers keep their copies current), `LiveState` (all that a worker needs to
know at its start). One file per family of tables: rows in, frozen values out, every function takes a `Connection`
and belongs to the transaction of whoever calls it. What one database does in its own way is in `sqlite.py` alone.

Nothing here knows of passwords, cookies, HTTP or roles: secrets arrive as hashes or sealed bytes, time as an argument.
"""
