"""signSGD with majority vote (Bernstein et al. 2019), the paper's comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from torch import Tensor

from flwr_robustcomp.compressors import Sign
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.options import RoundOptions
from flwr_robustcomp.strategies.round import Outcome, Round
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["SignMajorityVote"]


class SignMajorityVote(CompressedStrategy):
    """Every client votes with a sign on every coordinate; the majority's sign times gamma is the step.

    Parameters
    ----------
    compressor : Sign or Packing
        The one compressor whose payload is a vote.
    step_size : float
        gamma.
    **options
        Those of `CompressedStrategy`.

    Notes
    -----
    A tied coordinate does not move. No norm is computed and nobody is trimmed.

    Examples
    --------
    >>> from flwr_robustcomp import SignMajorityVote
    >>> SignMajorityVote(step_size=0.01).packing.compressor
    Sign(plus_zero=False)
    """

    def __init__(
        self, *, compressor: Sign | Packing | None = None, step_size: float = 1.0, **options: Unpack[RoundOptions]
    ) -> None:
        check_step_size(step_size)
        super().__init__(compressor=Sign() if compressor is None else compressor, **options)
        chosen = self.packing.compressor
        require(isinstance(chosen, Sign), "compressor", chosen, "Sign() for a majority vote")
        self.step_size = step_size

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> SignMajorityVote settings:")
        LOG.info("\t│\t└── Step size: %g", self.step_size)
        super().summary()

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        """Count votes, step by the majority's sign."""
        ballots = [1.0] * len(round_)
        return Outcome(round_.sum(ballots).sign_(), ballots, self.step_size)
