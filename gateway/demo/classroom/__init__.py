"""Sample application *classroom*: one live room for each customer, whom the host names (`{tenant}.classroom.<domain>`).

Nouns: `Room` (who is in it, what was said), `Listener` (one open WebSocket or event stream), `Shelf` (a room's files).
Routes for the gateway's policy: `/**` for whoever holds a grant at the tenant, `/static/*` public.
"""
