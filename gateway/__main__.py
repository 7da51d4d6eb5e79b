"""`python -m gateway` is `btb-gateway`."""

from gateway.cli import main

main()
