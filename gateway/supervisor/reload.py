"""What is in force, and what is on its way there: settings, policy, certificates and keys, of one version.

Law: something new is taken by all processes or by none. Each prepares it and says so; then new keys are written to the
disk, and only then it is committed, so that no key is used that could be lost. Who has not prepared it by the deadline
is replaced. Settings and policy each process may refuse, for all; keys and certificates alone none: one that does is
replaced too, or whoever had taken it over would keep the keys that they know in use. One at a time: what is asked for
meanwhile has its turn afterwards, or is told no in time. Nothing here blocks.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from gateway.config.schema import Settings
from gateway.foundation import logs
from gateway.foundation.clock import Clock, SystemClock
from gateway.foundation.errors import GatewayError, InvalidFile
from gateway.foundation.keyring import BY_NAME, Purpose
from gateway.metrics import Metrics
from gateway.supervisor.build import Configuration, read_configuration
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.launch import Child
from gateway.supervisor.roster import State

PREPARE_SECONDS = 5.0
TURN_SECONDS = 8.0
"""For which what is asked for waits until others are through: with its own preparation that is less than the 15 for
which a command waits."""
MOST_WAITING = 8
RENEWAL_PAUSE = 60.0
"""Between two attempts to hand out keys whose time has come."""
MOST_WORDS = 2000
"""Characters of a child's reason to refuse a configuration: what is longer could not be recorded."""
NEED_A_RESTART = (
    "domain", "state_dir", "master_key", "listen", "workers", "store", "node", "public_port", "users",
)  # fmt: skip

BUSY = "another reload is under way"

log = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any] | None, str | None], None]
"""Called once, with a result or with an error's words."""
Record = Callable[..., None]
"""The name of an event, and its fields."""


def nobody(_result: dict[str, Any] | None, _error: str | None) -> None:
    """Waits for no answer."""


@dataclass
class Reload:
    """Something new, while processes prepare it."""

    configuration: Configuration
    equipment: Equipment
    answer: Answer
    version: int
    deadline: float
    waiting: set[str]
    """Processes that were asked and have not said anything yet."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What the answer says beside the configuration."""
    prepared: set[str] = field(default_factory=set)
    """By process and not by seat: a successor has the old configuration."""


class Turn(NamedTuple):
    """What waits until others are through."""

    begin: Callable[[Answer], None]
    answer: Answer
    deadline: float


class InForce:
    def __init__(
        self,
        configuration: Configuration,
        equipment: Equipment,
        children: Mapping[str, Child],
        metrics: Metrics,
        record: Record,
        version: int = 1,
    ) -> None:
        """`children`: those that run; the master's own, which changes."""
        self.configuration, self.equipment, self.version = configuration, equipment, version
        self.coming: Reload | None = None
        self._turns: deque[Turn] = deque()
        self._children, self._metrics, self._record = children, metrics, record
        self._clock: Clock = SystemClock()
        self._renew_after = 0.0

    def __repr__(self) -> str:
        coming = f" (another is coming, {len(self._turns)} wait)" if self.coming else ""
        return f"<InForce {self.version}{coming}>"

    # First step.

    def reload(self, answer: Answer) -> None:
        """New settings and a new policy; certificates and keys are read again on the way."""
        self._in_turn(self._reload, answer)

    def _reload(self, answer: Answer) -> None:
        try:
            configuration = read_configuration(self.configuration.settings_path)
            _refuse_changes_that_need_a_restart(self.configuration.settings, configuration.settings)
            equipment = self.equipment.renewed(configuration)
        except GatewayError as error:
            self._refuse_settings(error, answer)
            return
        self._prepare(configuration, equipment, answer)

    def rotate(self, purpose: object, answer: Answer) -> None:
        """A new version of a key. The answer has its `id`, and `signs_in`: the seconds to its first use."""
        row = BY_NAME.get(purpose) if isinstance(purpose, str) else None
        if row is None:
            answer(None, f"{purpose!r} can't be rotated")
        else:
            self._in_turn(partial(self._rotate, row), answer)

    def _rotate(self, row: Purpose, answer: Answer) -> None:
        if (equipment := self._with_keys(answer, rotated=row.name)) is not None:
            self._prepare(self.configuration, equipment, answer, id=equipment.newest(row.name), signs_in=row.settles)

    def retire(self, purpose: object, current: object, answer: Answer) -> None:
        """Nothing rests on any other version of a key than `current`, its id: nobody has them any more."""
        if not isinstance(purpose, str) or purpose not in BY_NAME or not isinstance(current, str):
            answer(None, f"{purpose!r} can't be retired")
        else:
            self._in_turn(partial(self._retire, purpose, current), answer)

    def _retire(self, purpose: str, current: str, answer: Answer) -> None:
        if (equipment := self._with_keys(answer, retired=(purpose, current))) is not None:
            self._prepare(self.configuration, equipment, answer)

    def _with_keys(
        self, answer: Answer, rotated: str | None = None, retired: tuple[str, str] | None = None
    ) -> Equipment | None:
        """None, once it is answered why not."""
        try:
            return self.equipment.renewed(self.configuration, rotated, retired=retired)
        except GatewayError as error:
            answer(None, str(error))
            return None

    def _renew_keys(self, now: float) -> None:
        """When the time has come for a version to be used, or to be dropped."""
        due = self.equipment.keys_change
        if self.coming is not None or due is None or self._clock.now() < due or now < self._renew_after:
            return
        self._renew_after = now + RENEWAL_PAUSE
        try:
            self._prepare(self.configuration, self.equipment.renewed(self.configuration), self._renewed)
        except GatewayError as error:
            self._renewed(None, str(error))

    def _renewed(self, _result: dict[str, Any] | None, error: str | None) -> None:
        if error is None:
            self._renew_after = 0.0
        else:
            log.error("the keys could not be renewed: %s", error)

    def _in_turn(self, begin: Callable[[Answer], None], answer: Answer) -> None:
        """Now, or when what was asked for before is through."""
        if self.coming is None and not self._turns:
            begin(answer)
        elif len(self._turns) < MOST_WAITING:
            self._turns.append(Turn(begin, answer, time.monotonic() + TURN_SECONDS))
        else:
            answer(None, BUSY)

    def _take_turns(self, now: float) -> None:
        while self._turns and (self.coming is None or now > self._turns[0].deadline):
            begin, answer, deadline = self._turns.popleft()
            # Whoever was told no, or waits no longer, must not find it done.
            if now > deadline:
                answer(None, BUSY)
            else:
                begin(answer)

    def _prepare(self, configuration: Configuration, equipment: Equipment, answer: Answer, **result: object) -> None:
        self.version += 1
        ready = [child for child in self._children.values() if child.seat.state is State.READY]
        deadline = time.monotonic() + PREPARE_SECONDS
        waiting = {child.name for child in ready}
        self.coming = Reload(configuration, equipment, answer, self.version, deadline, waiting, result)
        for child in ready:
            message = {"kind": "prepare", "version": self.version, **configuration.as_message()}
            child.channel.send({**message, **equipment.for_role(child.seat.role)})

    # What children say to it.

    def prepared(self, child: Child, version: int) -> None:
        if self.coming is not None and version == self.coming.version:
            self.coming.waiting.discard(child.name)
            self.coming.prepared.add(child.name)

    def refused(self, child: Child, version: int, why: str) -> None:
        if self.coming is None or version != self.coming.version:
            return
        if self.coming.configuration is not self.configuration:
            self._abandon(self.coming, why[:MOST_WORDS])
            return
        log.error("a process refused new keys: %s", why[:MOST_WORDS], extra={"seat": child.name})
        self.coming.waiting.discard(child.name)
        self.coming.prepared.discard(child.name)

    def forget(self, child: Child) -> None:
        if self.coming is not None:
            self.coming.waiting.discard(child.name)

    def keep_time(self, now: float, *, may_renew: bool) -> None:
        """`now` is monotonic."""
        if self.coming is not None and (not self.coming.waiting or now > self.coming.deadline):
            self.commit(self.coming)
        self._take_turns(now)
        if may_renew:
            self._renew_keys(now)

    # Second step.

    def commit(self, reload: Reload) -> None:
        try:
            reload.equipment.save_keys()
        except GatewayError as error:
            self._abandon(reload, str(error))
            return
        self.coming = None
        for child in self._children.values():
            if child.name in reload.prepared:
                child.channel.send({"kind": "commit", "version": reload.version, "at": self._clock.now()})
            elif not child.was_asked:
                # Silent, or started meanwhile with the old configuration: its successor gets the new one.
                log.error("a process did not prepare the new configuration; it is replaced", extra={"seat": child.name})
                child.process.kill()
        old, self.configuration, self.equipment = self.configuration, reload.configuration, reload.equipment
        if old is not reload.configuration:
            logging.getLogger().setLevel(logs.level(reload.configuration.settings.log_level))
            self._metrics.set("gateway_config_reload_failed", 0)
            self._record("settings:reload", old=old.digest, new=reload.configuration.digest)
        reload.answer({"config": reload.configuration.digest, **reload.result}, None)

    def _abandon(self, reload: Reload, why: str) -> None:
        self.coming = None
        for child in self._children.values():
            child.channel.send({"kind": "abandon", "version": reload.version})
        if reload.configuration is not self.configuration:
            self._refuse_settings(GatewayError(why), reload.answer)
        else:
            reload.answer(None, why)

    def _refuse_settings(self, error: GatewayError, answer: Answer) -> None:
        problems = [str(p) for p in error.problems] if isinstance(error, InvalidFile) else [str(error)]
        self._metrics.set("gateway_config_reload_failed", 1)
        self._record("settings:reload-refused", old=self.configuration.digest, problems=problems[:20])
        answer(None, str(error))


def _refuse_changes_that_need_a_restart(old: Settings, new: Settings) -> None:
    changed = [name for name in NEED_A_RESTART if getattr(old, name) != getattr(new, name)]
    if changed:
        raise GatewayError(f"{', '.join(changed)}: this takes effect with a restart only; nothing was changed")
