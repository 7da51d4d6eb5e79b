"""The operator's files: read once, checked whole, turned into frozen values.

Nouns: `Document` (a YAML file as plain values, each with its line and column), `Problem` (one mistake, with place and
hint), `Settings` (what `gateway.yaml` says, defaults filled in, paths made absolute), `Loaded` (settings, with the text
and digest they came from).

`read.py` is the only file here that touches the disk. Checking changes nothing and starts nothing. This package knows
nothing of what a policy means: it gives any pydantic model the same treatment, and puts lines to problems found later.
"""
