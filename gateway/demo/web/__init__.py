"""What the sample applications share as web sites: pages, the gate in front of them, and the process around them.

Nouns: a site (its templates, its style, its content security policy), the gate (every request shows who asks, or is
refused), the server (listen, say that we are ready, stop cleanly). It knows nothing of orders or classrooms.
"""
