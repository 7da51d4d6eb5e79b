"""The portal's entry: serves the sign-in pages on the socket that workers reach as an upstream."""

import asyncio
import logging
import threading
from typing import Any

from gateway.foundation.errors import Unavailable
from gateway.identity.enrolment import Enrolment, EnrolmentKeys
from gateway.identity.factors import reseal, set_credentials
from gateway.identity.passwords import Passwords
from gateway.identity.sign_in import SignIn, SignInKeys, SignInSettings
from gateway.identity.tokens import AssertionVerifier
from gateway.policy.compile import PORTAL
from gateway.portal import Services, create_app
from gateway.portal.pages.sign_in import ALARMS
from gateway.store.engine import Store
from gateway.store.seals import Seals
from gateway.supervisor.channel import Message
from gateway.supervisor.child import Child, main, serve
from gateway.supervisor.commands import factors_from_text

log = logging.getLogger(__name__)
ASK_AGAIN_SECONDS = 60.0
RESEAL_PAUSE = 5.0
"""Before another attempt, when the store could not be used."""
SIGN_IN_RESULTS = ("success", "failure", "throttled")


class Portal(Child):
    role = "portal"
    writes = ("store",)

    async def begin(self) -> None:
        for result in SIGN_IN_RESULTS:
            # A series that is there from the start: otherwise Prometheus can't see its first step from 0 to 1.
            self.metrics.count("gateway_sign_ins_total", result, by=0)
        for alarm in ALARMS.values():
            self.metrics.count("gateway_sign_in_alarms_total", alarm.name, by=0)
        self._store = Store.open(self.settings.store, self.settings.state_dir, Seals(self.keys("seal")))
        self._is_review_due, self._may_ask_at = threading.Event(), 0.0
        self._store.on_tampered = self._is_review_due.set
        self._passwords = Passwords(self.entropy)
        self._runner = await serve(self.descriptors["portal"], create_app(self._services()))
        self._resealing = asyncio.create_task(self._reseal())

    async def adopt(self, message: Message) -> None:  # noqa: ARG002 - all of it is in `self.given` already.
        before, self._runner = self._runner, await serve(self.descriptors["portal"], create_app(self._services()))
        await before.cleanup()
        self._store.seals = Seals(self.keys("seal"))
        self._resealing.cancel()
        self._resealing = asyncio.create_task(self._reseal())

    def _services(self) -> Services:
        settings = self.settings
        issuer = settings.origin(settings.login_host)
        keys = SignInKeys(self.keys("session"), self.keys("hand-over"), self.keys("factor"))
        lives = SignInSettings(settings.login_host, settings.sessions.idle, settings.sessions.absolute)
        return Services(
            domain=settings.domain,
            public_port=self.configuration.public_port,
            absolute_seconds=settings.sessions.absolute,
            sign_in=SignIn(self._store, keys, self._passwords, lives, self.clock, self.entropy),
            enrolment=Enrolment(
                self._store,
                EnrolmentKeys(self.keys("session"), self.keys("factor")),
                self._passwords,
                settings.domain,
                self.clock,
                self.entropy,
            ),
            hand_over_keys=self.keys("hand-over"),
            verifier=AssertionVerifier(self.given["jwks"], issuer, PORTAL, self.clock),
            jwks=self.given["jwks"],
            clock=self.clock,
            entropy=self.entropy,
            record=self._record,
            count=self.metrics.count,
        )

    async def every_second(self) -> None:
        """What the portal meets first, old factors say, the keeper records, and locks the store for all. A locked one
        stays as it is, and strangers who try to sign in must not make the keeper read all of it again and again."""
        if self._is_review_due.is_set() and self.clock.monotonic() >= self._may_ask_at:
            self._is_review_due.clear()
            self._may_ask_at = self.clock.monotonic() + ASK_AGAIN_SECONDS
            await self.channel.ask("keeper", "review-store")

    async def _record(self, fragment: bytes) -> None:
        await self.journal.commit(fragment)

    async def answer(self, what: str, arguments: Message) -> Any:
        """`user add --credentials-stdin`: only this process may read the key of factor secrets."""
        if what != "set-credentials":
            return await super().answer(what, arguments)
        context = (arguments["person"], self.settings.domain)
        new = await asyncio.to_thread(
            factors_from_text, arguments["password"], arguments["totp_secret"], context, self.entropy
        )
        keys, clock, entropy = self.keys("factor"), self.clock, self.entropy
        await asyncio.to_thread(set_credentials, self._store, keys, arguments["person"], new, clock, entropy)
        return None

    async def _reseal(self) -> None:
        """After a rotation: whatever an older version of the factor key has sealed is sealed anew, a few at a time."""
        keys, last, count = self.keys("factor"), "", 0
        while True:
            try:
                after = last
                last, resealed = await asyncio.to_thread(reseal, self._store, keys, after, self.entropy)
            except Unavailable as error:
                log.warning("factors could not be sealed anew: %s", error)
                await asyncio.sleep(RESEAL_PAUSE)
                continue
            count += resealed
            if not last:
                break
        if count:
            log.info("factors were sealed anew", extra={"fields": {"count": count, "key": keys.current.id}})

    async def end(self) -> None:
        self._resealing.cancel()
        await self._runner.cleanup()
        self._passwords.close()
        self._store.close()


if __name__ == "__main__":
    main(Portal)
