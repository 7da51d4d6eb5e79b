"""The audit journal: what was asked, by whom, what was decided and why, on disk before anything is forwarded.

Nouns: a *record* is one JSON object on a line; its *fragment* is the part that `events` builds and redacts. A *chain*
is the sequence of one process's records, each holding the hash of the one before; it lies in *segments*, files of a
folder of its own. A *head* is how far a chain has come. A *checkpoint* is the keeper's signature over all heads, and
over the *opening* of a chain before its first record.

Nothing here knows of HTTP, policy, SQL or who is allowed what: callers pass the values to be recorded.
"""
