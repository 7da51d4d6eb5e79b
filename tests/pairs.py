"""Whether two things take the same time: measured in pairs, judged by the sign test.

It rests on nothing but the order within each pair being a fair coin's. So neither a machine that slows down meanwhile
nor one that is busy makes it fail; they only make it see less.
"""

import random
from collections.abc import Iterator, Sequence
from math import comb

FALSE_ALARM = 1e-6
"""How often a test may fail where there is nothing to see, at most."""


def orders(pairs: int) -> Iterator[bool]:
    """For each pair, whether the first comes first."""
    coin = random.SystemRandom()
    return (coin.random() < 0.5 for _ in range(pairs))


def chance(differences: Sequence[float], slack: float) -> float:
    """How likely so many differences beyond `slack` are, to one side or the other, if no more than half of them ought
    to be: if the two are that close or closer."""
    pairs = len(differences)
    most = max(sum(each > slack for each in differences), sum(each < -slack for each in differences))
    return min(1.0, 2 * sum(comb(pairs, n) for n in range(most, pairs + 1)) / 2**pairs)
