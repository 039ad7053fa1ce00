"""Whether filters drop now one node and now another: the sign that they trim honest minorities."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from flwr_robustcomp.errors import ConfigurationError, printable

__all__ = ["DropWatch"]

_ROUNDS = 10
_WITH_DROPS = 8
_LEVEL = 0.05

_WARNING = (
    "the filters dropped nodes in {drops} of the last {rounds} rounds, and no node more often than chance would have it: they "
    "seem to trim honest minorities. Fewer are dropped by filters that look at directions "
    "(norm-clipping+directions+spectral), by a larger slack, and with a smaller trim"
)

_Drops = tuple[frozenset[int], frozenset[int]]
"""Who was kept in a round, and who was dropped."""


class DropWatch:
    """Who was dropped in the last ten rounds, and a warning, once in a run, where nobody stands out among them.

    Parameters
    ----------
    rounds : iterable of (set of int, set of int)
        Those of an earlier part of the run: the nodes that were kept, and those that were dropped.
    told : bool
        Whether the warning was given there.

    Notes
    -----
    Colluders persist, and honest noise does not. The warning needs ten rounds, at least eight of them with drops, in which no
    node stands out. Let r be the share of replies that were dropped and n the number of nodes. A node that took part in k
    rounds and was dropped in j of them stands out if n P(Binomial(k, r) >= j) < 0.05: in 95 of 100 windows without persistence
    no node does (Bonferroni's bound). Where nodes take part in few rounds nobody can stand out, and that proves nothing: the
    warning also needs that at least half of the drops fell on nodes with n r^k < 0.05, which would have stood out had they been
    dropped each time.

    The same honest nodes, dropped in every round because their data are unlike all others', look like colluders here.

    Examples
    --------
    >>> watch = DropWatch()
    >>> nodes = set(range(20))
    >>> told = [watch.judge(nodes - {t, t + 1}, {t, t + 1}) for t in range(12)]
    >>> [t for t, warning in enumerate(told) if warning]
    [9]
    >>> watch = DropWatch()
    >>> any(watch.judge(nodes - {3, 5}, {3, 5}) for _ in range(12))
    False
    """

    def __init__(self, rounds: Iterable[_Drops] = (), *, told: bool = False) -> None:
        self.rounds = deque(rounds, maxlen=_ROUNDS)
        self.told = told

    def judge(self, kept: Iterable[int], dropped: Iterable[int]) -> str | None:
        """Remember a round; return the warning if it is due."""
        self.rounds.append((frozenset(kept), frozenset(dropped)))
        drops = sum(bool(out) for _, out in self.rounds)
        if self.told or len(self.rounds) < _ROUNDS or drops < _WITH_DROPS or not _nobody_stands_out(self.rounds):
            return None
        self.told = True
        return _WARNING.format(drops=drops, rounds=_ROUNDS)

    def state(self) -> str:
        """Return what a checkpoint keeps."""
        return json.dumps({"told": self.told, "rounds": [[sorted(kept), sorted(out)] for kept, out in self.rounds]})

    @classmethod
    def restored(cls, state: object) -> DropWatch:
        """Return the watch of which `state` was kept; a new one for None, which older checkpoints hold.

        Raises
        ------
        ConfigurationError
            For anything else.
        """
        if state is None:
            return cls()
        try:
            read = json.loads(str(state))
            rounds = [(_nodes(kept), _nodes(out)) for kept, out in read["rounds"]]
            return cls(rounds, told=bool(read["told"]))
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            why = printable(str(error))
            raise ConfigurationError(f"the last drops must be as a checkpoint keeps them, got others: {why}") from error


def _nobody_stands_out(rounds: Sequence[_Drops] | deque[_Drops]) -> bool:
    took = Counter(node for kept, out in rounds for node in kept | out)
    dropped = Counter(node for _, out in rounds for node in out)
    share, level = dropped.total() / took.total(), _LEVEL / len(took)
    if any(_at_least(dropped[node], took[node], share) < level for node in dropped):
        return False
    tested = sum(count for node, count in dropped.items() if share ** took[node] < level)
    return 2 * tested >= dropped.total()


def _at_least(successes: int, trials: int, chance: float) -> float:
    """Return P(Binomial(trials, chance) >= successes)."""
    return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes, trials + 1))


def _nodes(ids: object) -> frozenset[int]:
    if not isinstance(ids, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise ValueError("a round is two lists of node ids")
    return frozenset(ids)
