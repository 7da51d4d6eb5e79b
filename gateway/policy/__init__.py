"""Who may do what: the policy file's language, and the one function that decides by it.

Nouns: a *policy* (one frozen snapshot of the file, with the gateway's own applications), an *application* (a host and
its routes), a *route* (path pattern, methods, rule, terms), a *rule* (what an identity must have), *terms* (how what
is allowed is carried), a *match* (the one route of a request, or why there is none), a *question* (match,
principal, time, address) and its *decision* (verdict, reason, trace).

Everything here is pure: no I/O, no clock, no loop. It knows nothing of HTTP messages, sessions, sockets or SQL.
"""
