"""The data plane: what happens between a client's socket and an application's.

Nouns: a `Wire` is one byte stream with backpressure both ways; a `ClientConnection` reads requests off one and runs
them in turn; an `Exchange` is one request and its answer; `handle(exchange)` (exchange.py: read it first) is its whole
story; an `UpstreamConnection` is a wire to an application, kept in a `Pool`; `Live` knows all running exchanges, so
that authority that ends takes effect on them too; a `Refusal` is an answer of our own with its published reason.

This package knows of no SQL, no forms and no processes; what it needs arrives in `Service`.
"""
