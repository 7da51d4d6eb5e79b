"""What a verification found, what it counted, and what it could not know."""

from dataclasses import asdict, dataclass, field

from gateway.audit.reader import Torn


@dataclass(frozen=True, slots=True)
class Break:
    """A proof that something was changed, removed or lost. `place` is a file under the state folder, with its line."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place} {self.problem}"


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
    """`NUMBER:HASH` of the last checkpoint: keep it elsewhere, and give it as `--at-least` the next time."""
    first_key: str = ""
    """The public key that the rest rests on."""
    keys: int = 0
    """This one, and those that were introduced since, each by the one before."""
    known: int = 0
    """Checkpoints that were known elsewhere and that these were held against."""
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
        signed = f"{self.keys} signing keys, the first {self.first_key}"
        held = [f"held against {self.known} checkpoints that were known elsewhere"] if self.known else []
        return [verdict, *rest, counted, signed, *held, *self._unknown()]

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
