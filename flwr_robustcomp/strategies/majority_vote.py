"""signSGD with majority vote (Bernstein et al. 2019), the paper's comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Sign
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.options import SharedOptions
from flwr_robustcomp.strategies.round import Outcome, Round
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["SignMajorityVote"]


class SignMajorityVote(CompressedStrategy):
    """Every client votes with a sign on every coordinate; the majority's sign times gamma is the step.

    Parameters
    ----------
    compressor : Sign
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
    >>> SignMajorityVote(step_size=0.01).receiver.compressor
    Sign(plus_zero=False)
    """

    def __init__(
        self, *, compressor: Compressor | None = None, step_size: float = 1.0, **options: Unpack[SharedOptions]
    ) -> None:
        compressor = Sign() if compressor is None else compressor
        require(isinstance(compressor, Sign), "compressor", compressor, "Sign() for a majority vote")
        check_step_size(step_size)
        super().__init__(compressor=compressor, **options)
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
