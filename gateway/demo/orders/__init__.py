"""Sample application *orders*: the orders of several customers, one of whom the address names (`/t/{tenant}/…`).

Nouns: `Order`, `Refund`, the `Book` that holds them in memory. Routes for the gateway's policy: `/` for whoever is
signed in, `/t/{tenant}/orders/**` with `order_details`, `/t/{tenant}/refund/*` with `billing` and a fresh code,
`/status` and `/static/*` public.
"""
