"""The command `btb-gateway`: one short file for each family of verbs.

Nouns: a *verb* (`user add`), its *answer* (printed for people, or as JSON), the *keeper* (who does what needs the
store while the gateway runs; `remote.py`). Exit status: 0 for yes, 1 for no, 2 for a wrong call. Nothing here decides
anything or touches the store or a key: a verb asks whoever does, and prints what comes back.

What costs time to import is imported in the verb that needs it, so that `--help` and completion are quick.
"""

import sys


def main() -> None:
    from gateway.cli.app import run

    sys.exit(run(sys.argv[1:]))
