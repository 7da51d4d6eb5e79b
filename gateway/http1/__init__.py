"""HTTP/1 as bytes and frozen values: what a message says, where it ends, and how one is written. Nothing else.

Nouns: `RequestHead` and `ResponseHead` (one message's head, of `Header` lines), `Framing` (how its body ends),
`BodyDecoder` (finds that end), `LineMemory` (header lines seen before), `Fault` (why a message is refused).

It must not know of sockets, time, routes, identity or policy: bytes come in as arguments, values go out, and the same
bytes always get the same verdict. Whatever has two readings is refused, never repaired (RFC 9112, section 11.2).
"""
