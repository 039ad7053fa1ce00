"""What a run does about rejected replies: when a round counts, when the run ends, who is left out for a while."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.strategies.report import NO_GARBAGE, Rejection

__all__ = ["Policy"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules for rounds in which replies were rejected.

    Parameters
    ----------
    quorum : int or float
        How many replies must be accepted for the model to move: a count, or a share in (0, 1] of the nodes asked, rounded up.
    patience : int or None
        After so many rounds in a row without quorum the next one is not asked for: `QuorumError`. None goes on for ever.
    quarantine_after : int or None
        A node whose replies were rejected in so many rounds in a row is left out of sampling; None never does.
    quarantine_rounds : int
        For how many rounds; every further time in a row without an accepted reply doubles it, 16-fold at most.
    rejected_spend_trim : bool
        Whether a faulty reply takes one off a trim that is a count: the Byzantine node that sent it is no longer among the
        accepted, b - r of which then are. Error replies take nothing off: honest nodes fail too. A trim that is a fraction is
        always one of the accepted replies. Where the filters of `RobustCompressed` would be left with too few replies to do
        anything, faulty ones are taken off in any case, and so are nodes in quarantine that had sent faulty ones: senders of
        garbage cannot hold up the run.

    Notes
    -----
    Nobody is left out for whom there is no substitute: see `Ledger.available`.

    Examples
    --------
    >>> from flwr_robustcomp import L1Sign, NormThreshold, Policy
    >>> strategy = NormThreshold(compressor=L1Sign(), policy=Policy(quorum=0.5, patience=3))
    >>> strategy.policy.needed(asked=15), strategy.policy.shortfall(accepted=7, asked=15)
    (8, 'the quorum is 8 of 15 nodes, and 7 replies were accepted')
    """

    quorum: int | float = 1
    patience: int | None = 10
    quarantine_after: int | None = 3
    quarantine_rounds: int = 10
    rejected_spend_trim: bool = False

    def __post_init__(self) -> None:
        share = isinstance(self.quorum, float)
        allowed = "a count from 1, or a share in (0, 1]"
        require(_is_number(self.quorum), "policy.quorum", self.quorum, allowed)
        require(0 < self.quorum <= 1 if share else self.quorum >= 1, "policy.quorum", self.quorum, allowed)
        for name in ("patience", "quarantine_after"):
            value = getattr(self, name)
            require(value is None or _is_count(value), f"policy.{name}", value, "a count from 1, or None")
        require(_is_count(self.quarantine_rounds), "policy.quarantine_rounds", self.quarantine_rounds, "a count from 1")

    def needed(self, asked: int) -> int:
        """Return how many of the replies of ``asked`` nodes must be accepted."""
        return math.ceil(self.quorum * asked) if isinstance(self.quorum, float) else self.quorum

    def shortfall(self, accepted: int, asked: int) -> str | None:
        """Say why a round has no quorum; None where it has one."""
        if accepted == 0:
            return "no reply was accepted"
        needed = self.needed(asked)
        return None if accepted >= needed else f"the quorum is {needed} of {asked} nodes, and {accepted} replies were accepted"

    def to_trim(self, trim: int | float, rejected: Sequence[Rejection], accepted: int, left_out: int = 0) -> int:
        """Return how many of the accepted replies to trim; faulty replies are taken off where more than half would go.

        Senders of garbage cannot hold up a run: they are among those that were to be trimmed.
        """
        count = trim_of(self.left_to_trim(trim, rejected, left_out), accepted)
        short = 2 * count >= accepted
        return trim_of(self.left_to_trim(trim, rejected, left_out, short=True), accepted) if short else count

    def left_to_trim(
        self, trim: int | float, rejected: Sequence[Rejection], left_out: int = 0, *, short: bool = False
    ) -> int | float:
        """Return what rejected replies leave of a trim; they spend it in any case where a filter is ``short`` of replies.

        Parameters
        ----------
        trim : int or float
            As configured; a share is always one of the accepted replies.
        rejected : sequence of Rejection
            Of the round.
        left_out : int
            Nodes that were left out of this round because they had sent garbage before (`Ledger.garbage_senders`).
        short : bool
            Whether a filter has too few replies otherwise.
        """
        if not (self.rejected_spend_trim or short) or isinstance(trim, float):
            return trim
        faulty = {one.node_id for one in rejected if one.reason not in NO_GARBAGE}
        return max(0, trim - len(faulty) - left_out)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
