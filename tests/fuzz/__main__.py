"""Coverage-guided fuzzing of what reads bytes: `python -m tests.fuzz TARGET`, and `make fuzz` for all targets.

Law: a target is a module with `reads`, which is our code alone and raises nothing, whatever it gets; `check`, which
raises for an input that breaks what is promised; `seeds` to begin with and `TOKENS` to build from. It keeps nothing
between inputs, so an input that was found breaks it again, alone: `--bytes HEX`. Only modules of ours are followed;
what they are compared with is not.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

TARGETS = ("request_head", "response_head", "chunked", "path", "authority", "cookies")
FOLLOWED = ["gateway.http1", "gateway.policy", "gateway.proxy", "gateway.identity"]
MOST_BYTES = 32 * 1024
MOST_SECONDS = 0.1
"""Of processor time, for any input at all, with the counting of what was reached."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=0, help="how long; for ever if neither this nor --runs is given")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--bytes", type=bytes.fromhex, help="this input alone, in hexadecimal")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.bytes is not None:
        once(importlib.import_module(f"tests.fuzz.{given.target}"), given.bytes)
        return
    import atheris

    with atheris.instrument_imports(include=FOLLOWED):
        target = importlib.import_module(f"tests.fuzz.{given.target}")
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup([sys.argv[0], *options(target, given, Path(folder))], explained(given.target, target))
        atheris.Fuzz()


def options(target: ModuleType, given: argparse.Namespace, folder: Path) -> list[str]:
    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / f"{number:05}").write_bytes(seed)
    escaped = ["".join(f"\\x{byte:02x}" for byte in token) for token in target.TOKENS]
    words.write_text("".join(f'"{token}"\n' for token in escaped))
    return [
        f"-max_total_time={given.seconds}",
        f"-runs={given.runs}",
        f"-seed={given.seed}",
        f"-max_len={MOST_BYTES}",
        f"-dict={words}",
        f"-artifact_prefix={folder}/",
        "-timeout=30",
        "-reload=0",
        str(corpus),
    ]


def explained(name: str, target: ModuleType) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        try:
            once(target, data)
        except BaseException:
            print(f"{name}: {data!r}\nAgain: python -m tests.fuzz {name} --bytes {data.hex() or repr('')}", flush=True)
            raise

    return check


def once(target: ModuleType, data: bytes) -> None:
    target.check(data)
    # Something else may have come between: what is slow by itself is slow each time.
    assert any(seconds(target, data) < MOST_SECONDS for _ in range(3)), f"{len(data)} bytes: more than {MOST_SECONDS} s"


def seconds(target: ModuleType, data: bytes) -> float:
    before = time.thread_time()
    target.reads(data)
    return time.thread_time() - before


if __name__ == "__main__":
    main()
