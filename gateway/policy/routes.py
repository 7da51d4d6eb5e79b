"""The compiled form of applications and routes, and the tree that finds a route without looking at the others.

Law: a path has at most one place where a tenant stands (`problems` refuses policies in which it could have two, or in
which a literal or `*` could stand there too). What stands in that place is the request's tenant *whichever route wins*,
so a wide `/**` beside `/t/{tenant}/orders` is no way round the tenant's grants. The same goes for `{secret}`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.policy.endpoints import Upstream
from gateway.policy.path import Encoded, fold
from gateway.policy.pattern import Pattern, Segment, Wild
from gateway.policy.rates import RateLimit
from gateway.policy.restrict import Restriction
from gateway.policy.rules import Rule, Step
from gateway.policy.terms import Terms


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Compares by identity: a policy has each route once."""

    id: str
    """`application:path`; stable as long as the path is. Later routes of the same path have their methods added."""
    application: str
    pattern: Pattern
    methods: frozenset[str]
    """HEAD is among them if GET is."""
    tenant: str | None
    """The one customer that it, or its application, is fixed to."""
    encoded: frozenset[Encoded]
    rule: Rule | None
    """None: public."""
    why: str | None
    restrictions: tuple[Restriction, ...]
    limits: tuple[RateLimit, ...]
    """Rates, its application's among them."""
    is_isolated: bool
    """Whether connections to the application that it uses serve one customer only."""
    terms: Terms
    matched: Step
    """The first step of every trace of this route."""

    @property
    def is_public(self) -> bool:
        return self.rule is None


Methods = Mapping[str, Route]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A prefix of patterns. Its children are tried in the order of the fields."""

    literals: Mapping[str, "Node"]
    tenant: "Node | None"
    wild: "Node | None"
    """`*` and `{secret}`."""
    end: Methods | None
    """Patterns that end here."""
    rest: Methods | None
    """Patterns that end in `**` here."""
    wild_is_secret: bool
    has_places: bool
    """A tenant or a secret stands at this depth or below."""

    def find(self, segments: tuple[str, ...], depth: int = 0) -> Methods | None:
        """The most specific pattern that matches, by its leftmost difference. The cost depends on the path's length,
        not on how many routes there are: each step looks into one dictionary, and patterns bound the depth."""
        if depth == len(segments):
            return self.rest if self.end is None else self.end
        segment = segments[depth]
        child = self.literals.get(segment)
        if child is not None and (found := child.find(segments, depth + 1)) is not None:
            return found
        if segment:  # An empty last segment is a trailing slash, which only `**` and a trailing slash match.
            for child in (self.tenant, self.wild):
                if child is not None and (found := child.find(segments, depth + 1)) is not None:
                    return found
        return self.rest

    def add_places(self, segments: tuple[str, ...], places: list[tuple[Wild, int]], depth: int = 0) -> None:
        """Where a tenant or a secret stands in this path, by any pattern, however the path goes on."""
        if depth == len(segments) or not (segment := segments[depth]):
            return
        literal = self.literals.get(segment)
        if self.tenant is not None:
            places.append((Wild.TENANT, depth))
        if self.wild_is_secret and literal is None:
            places.append((Wild.SECRET, depth))
        for child in (literal, self.tenant, self.wild):
            if child is not None and child.has_places:
                child.add_places(segments, places, depth + 1)


@dataclass(frozen=True, slots=True)
class Health:
    """How each upstream is asked, by itself, whether it is well. Seconds."""

    path: str
    every: int
    timeout: int


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """Compares by identity: a policy has each application once."""

    name: str
    host: str
    """As in the file: a name, or `{tenant}.` and a name."""
    upstreams: tuple[Upstream, ...]
    health: Health | None
    folds_case: bool
    cors_origins: frozenset[str]
    """Whose preflights the gateway answers."""
    origins: frozenset[str]
    """Other origins that may change state with a cookie, those of `cors` included."""
    terms: Terms
    """Of its routes that have none of their own."""
    routes: tuple[Route, ...]
    tree: Node
    has_secrets: bool
    """Whether some of its paths have a `{secret}`."""
    is_own: bool
    """Whether it is the gateway's own: no file can define one."""


def grow(routes: tuple[Route, ...], *, folds_case: bool) -> Node:
    """The tree of an application's routes."""
    rows = []
    for route in routes:
        segments = route.pattern.segments
        if folds_case:
            segments = tuple(fold(part) if isinstance(part, str) else part for part in segments)
        rows.append((segments, route))
    return _node(rows)


_Row = tuple[tuple[Segment, ...], Route]


def _node(rows: list[_Row]) -> Node:
    """`rows`: what is left of each pattern at this depth."""
    below: dict[Segment, list[_Row]] = {}
    for segments, route in rows:
        if segments:
            below.setdefault(segments[0], []).append((segments[1:], route))
    tenant, wild = below.pop(Wild.TENANT, None), below.pop(Wild.ANY, [])
    secret = below.pop(Wild.SECRET, [])
    children = {text: _node(tails) for text, tails in below.items() if isinstance(text, str)}
    tenant_node = _node(tenant) if tenant else None
    wild_node = _node(wild + secret) if wild or secret else None
    inner = [*children.values(), *(node for node in (tenant_node, wild_node) if node is not None)]
    ending = [route for segments, route in rows if not segments]
    return Node(
        literals=children,
        tenant=tenant_node,
        wild=wild_node,
        end=_methods(route for route in ending if not route.pattern.is_open),
        rest=_methods(route for route in ending if route.pattern.is_open),
        wild_is_secret=bool(secret),
        has_places=tenant_node is not None or bool(secret) or any(node.has_places for node in inner),
    )


def _methods(routes: Iterator[Route]) -> Methods | None:
    found = {method: route for route in routes for method in route.methods}
    return found or None
