"""What a verification found, what it counted, and what it could not know."""

from dataclasses import asdict, dataclass, field

from gateway.audit.checkpoint import file_hash
from gateway.audit.reader import Torn
from gateway.foundation.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Break:
    """A proof that something was changed, removed or lost. `place` is a file under the state folder, with its line."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place} {self.problem}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A checkpoint that is known to exist, because its number, and perhaps its hash, left the node in time."""

    number: int
    hash: str = ""

    @classmethod
    def parse(cls, text: str) -> "AtLeast":
        """`41`, or `41:` and the hash as a report prints it. Raises GatewayError."""
        number, _, digest = text.partition(":")
        if not number.isascii() or not number.isdigit() or (digest and len(digest) != 64):
            raise GatewayError(f"{text!r} is no checkpoint: write its number, or NUMBER:HASH")
        return cls(int(number), digest.lower())

    def contradicts(self, number: int, content: bytes) -> bool:
        return number == self.number and self.hash != "" and file_hash(content) != self.hash


@dataclass(frozen=True, slots=True)
class ChainResult:
    chain: str
    unsigned: int
    """Records after the last checkpoint: they fit, but nobody could tell if more of them had been there."""
    torn: Torn | None
    unknown_outcomes: int
    """Decisions without an outcome: still running at the end, or cut off by a crash."""
    lone_outcomes: int


@dataclass(slots=True)
class Report:
    breaks: tuple[Break, ...] = ()
    """In the order in which they were found; per chain the first one."""
    checkpoints: int = 0
    last: str = ""
    """`NUMBER:HASH` of the last checkpoint: keep it elsewhere, and give it as `at_least` the next time."""
    chains: int = 0
    records: int = 0
    unsigned: dict[str, int] = field(default_factory=dict)
    torn: list[Torn] = field(default_factory=list)
    unknown_outcomes: int = 0
    lone_outcomes: int = 0

    @property
    def ok(self) -> bool:
        return not self.breaks

    @property
    def first(self) -> Break | None:
        return self.breaks[0] if self.breaks else None

    def add(self, result: ChainResult) -> None:
        self.chains += 1
        if result.unsigned:
            self.unsigned[result.chain] = result.unsigned
        if result.torn is not None:
            self.torn.append(result.torn)
        self.unknown_outcomes += result.unknown_outcomes
        self.lone_outcomes += result.lone_outcomes

    def as_json(self) -> dict[str, object]:
        return {"ok": self.ok, **asdict(self)}

    def lines(self) -> list[str]:
        """For people: the verdict, then what was counted, then what can't be known."""
        verdict = "no break" if self.ok else f"BROKEN: {self.first}"
        rest = [f"also: {each}" for each in self.breaks[1:]]
        counted = f"{self.records} records in {self.chains} chains, {self.checkpoints} checkpoints, last {self.last}"
        return [verdict, *rest, counted, *self._unknown()]

    def _unknown(self) -> list[str]:
        found = [
            f"{chain}: {count} records after its last checkpoint; whether more followed can't be known"
            for chain, count in self.unsigned.items()
        ]
        found += [f"{t.chain}/{t.file}:{t.line} is torn: {t.bytes} bytes that are no record" for t in self.torn]
        if self.unknown_outcomes:
            found.append(f"{self.unknown_outcomes} decisions have no outcome: how those exchanges ended is unknown")
        if self.lone_outcomes:
            found.append(f"{self.lone_outcomes} outcomes have no decision in their chain")
        return [*found, "whatever was removed after the last checkpoint that left this node can't be known"]
