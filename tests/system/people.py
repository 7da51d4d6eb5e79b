"""Somebody with a password and an authenticator app."""

import base64
import os
import time
from dataclasses import dataclass, field

from pyotp import TOTP

STEP_SECONDS = 30


class Authenticator:
    """Gives out each code once. The gateway takes codes of the step before and after as well, so three are at hand
    without waiting."""

    def __init__(self, secret: str = "") -> None:
        self.secret = secret or base64.b32encode(os.urandom(20)).decode()
        self._last = 0

    def code(self) -> str:
        """A code that is good now and was never given out; waits for the clock when they are used up."""
        now = time.time() / STEP_SECONDS
        # At the end of a step the one before it would be too old when it arrives.
        return self._take(int(now) - 1 if now % 1 < 0.7 else int(now))

    def lasting_code(self) -> str:
        """One that is good for half a minute more, at least."""
        return self._take(int(time.time() / STEP_SECONDS) + 1)

    def _take(self, first: int) -> str:
        """The code of the first step from this one on whose code was not given out."""
        step = max(self._last + 1, first)
        if step > time.time() // STEP_SECONDS + 1:
            time.sleep((step - 1) * STEP_SECONDS - time.time() + 0.1)
        self._last = step
        return self.at(step)

    def at(self, step: int) -> str:
        return TOTP(self.secret).generate_otp(step)

    def wrong_code(self) -> str:
        """Not any of those that are or come near."""
        now = int(time.time() / STEP_SECONDS)
        near = {self.at(step) for step in range(now - 2, now + 4)}
        return next(code for code in map("{:06d}".format, range(100000, 100020)) if code not in near)


@dataclass
class Person:
    name: str
    password: str
    id: str = ""
    authenticator: Authenticator = field(default_factory=Authenticator)
