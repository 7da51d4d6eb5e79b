"""Who a request comes from, how people prove it, and when that ends.

Nouns: a *person* has one password and *authenticators* (one-time codes); a *sign-in* turns the two into a *session*;
a session has one *host token* for each application host, which the browser holds as its cookie; a *hand-over* carries a
sign-in from the login host to an application host; a *service token* (`gwt_…`) is what programs hold; the *directory*
is a worker's live copy of all of them, and the *assertion* is what applications are told.

Nothing here knows of sockets, pages, routes or policy beyond its closed list of reasons. Whatever is asked of the store
and not answered in time raises `StoreUnavailable`: the absence of an answer is never "nobody".
"""
