"""Robust compressed gradient descent: Algorithms 1, 2 and 3 of the paper as one Flower strategy."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Unpack, get_args

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from torch import Tensor

from flwr_robustcomp.compressors import NORM_ORDERS
from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import check_trim, trim_of
from flwr_robustcomp.filters.norm import shortest
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.guarantee import guarantee_line
from flwr_robustcomp.strategies.options import SharedOptions
from flwr_robustcomp.strategies.replies.screening import Update
from flwr_robustcomp.strategies.round import Outcome, Round, SkippedRound
from flwr_robustcomp.strategies.server_step import check_step_size
from flwr_robustcomp.theory import Adversary, Theorem

__all__ = ["NormSource", "NormThreshold", "Weighting"]


NormSource = Literal["compressed", "reported"]
"""Sort by ||Q(x)||_q, which the server computes (Algorithm 2), or by the reported ||x||_q if that is larger (Algorithm 1)."""

Weighting = Literal["equal", "examples"]
"""Weight the kept updates equally, as the paper does, or by the number of examples that each client claims."""


class NormThreshold(CompressedStrategy):
    """Drop the updates of largest norm and average the rest in the compressed domain.

    With ``trim=0`` it is vanilla compressed gradient descent; with error feedback on the clients and ``trim=0`` it is
    Algorithm 3; with both it is the thresholded error feedback of the paper's experiments.

    Parameters
    ----------
    trim : int or float
        beta m as a count, or beta as a fraction in [0, 0.5) of the accepted replies, rounded up.
    norm : {"compressed", "reported"}
        The norm to sort by. "compressed" needs a compressor of C_norm; "reported" needs
        ``CompressionMod(report_norm=norm_order)``, and sorts by the larger of both norms (`sort_norm.sort_norm`).
    norm_order : {1, 2, inf}
        q.
    step_size : float
        gamma; 1 where clients reply with weights, so that their own learning rate is the step.
    radius : float, optional
        Project onto the l2 ball of this radius about the origin (the paper's W).
    weighting : {"equal", "examples"}
        How kept updates are weighted. "examples" lets clients choose their own weight; see docs/threat-model.md.
    **options
        Those of `CompressedStrategy`, ``compressor`` among them.

    Raises
    ------
    ConfigurationError
        For a value out of range, and for norm="compressed" with a compressor that does not embed the norm.

    Notes
    -----
    A reply that fails screening is dropped and does not count towards ``trim``. If the replies that are left do not outnumber
    twice the trim, the round leaves the model as it is. Guarantees: Theorems 1 to 3 of Ghosh et al. 2020.

    Examples
    --------
    >>> from flwr_robustcomp import L1Sign, NormThreshold
    >>> strategy = NormThreshold(compressor=L1Sign(), trim=2, step_size=0.5)
    >>> strategy.check_nodes(10)
    """

    def __init__(
        self,
        *,
        trim: int | float = 0,
        norm: NormSource = "compressed",
        norm_order: float = 2,
        step_size: float = 1.0,
        radius: float | None = None,
        weighting: Weighting = "equal",
        **options: Unpack[SharedOptions],
    ) -> None:
        check_trim(trim)
        require(norm in get_args(NormSource), "norm", norm, f"one of {', '.join(get_args(NormSource))}")
        require(norm_order in NORM_ORDERS, "norm_order", norm_order, "one of 1, 2, inf")
        check_step_size(step_size)
        require(radius is None or radius > 0, "radius", radius, "positive or None")
        require(weighting in get_args(Weighting), "weighting", weighting, f"one of {', '.join(get_args(Weighting))}")
        super().__init__(
            norm_order=norm_order if norm == "reported" else None,
            weight_required=weighting == "examples",
            **options,
        )
        require(
            norm == "reported" or self.packing.embeds_norm or trim == 0,
            "norm",
            norm,
            f'"reported" for the compressor {self.packing.compressor.name!r}, whose output does not embed the norm (section 5)',
        )
        self.trim = trim
        self.norm = norm
        self.norm_order = norm_order
        self.step_size = step_size
        self.radius = radius
        self.weighting = weighting
        self._said = False

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` unless so many replies outnumber twice the trim."""
        super().check_nodes(nodes)
        require(2 * trim_of(self.trim, nodes) < nodes, "trim", self.trim, f"less than half of {nodes} replies")

    def trimmed_by_norm(self, nodes: int) -> tuple[int, float]:
        """Return how many of so many replies are trimmed, and the order of the norm that they are sorted by."""
        return trim_of(self.trim, nodes), self.norm_order

    def outside_theory(self, layout: Layout, nodes: int, adversary: Adversary = "arbitrary") -> tuple[int, str] | None:
        """Return `guarantee_line` for the algorithm that this is."""
        return guarantee_line(
            self.packing,
            layout,
            nodes,
            self.trim,
            theorem=self.theorem,
            norm_order=self.norm_order,
            adversary=adversary,
        )

    @property
    def theorem(self) -> Theorem:
        """The theorem of the algorithm that this is: 1 for reported norms, 2 for compressed ones."""
        return 1 if self.norm == "reported" else 2

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> NormThreshold settings:")
        LOG.info("\t│\t├── Compressor: %s", self.packing)
        LOG.info("\t│\t├── Trim: %s, by the %s l%g norm", self.trim, self.norm, self.norm_order)
        LOG.info("\t│\t└── Step size: %g | radius: %s | weighting: %s", self.step_size, self.radius, self.weighting)
        super().summary()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does; say once, where that is so, that no theorem covers this run."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages and not self._said:
            self._said = True
            if (line := self.outside_theory(self.receiver.expected.layout, len(messages))) is not None:
                LOG.log(*line)
        return messages

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        """Sort by norm, keep the smallest, average straight from the bits (line 6)."""
        trim, m = round_.to_trim(self.trim), len(round_)
        if 2 * trim >= m:
            raise SkippedRound(f"trimming {trim} needs more than {2 * trim} accepted replies, got {m}")
        norms = round_.norms(self.norm_order)
        kept = shortest(norms, m - trim)
        weights = np.zeros(m)
        weights[kept] = self._weights([round_.updates[i] for i in kept])
        return Outcome(
            round_.sum(weights.tolist()),
            weights.tolist(),
            self.step_size,
            norms=dict(zip(round_.nodes, norms, strict=True)),
            threshold=max(norms[i] for i in kept),
        )

    def _weights(self, kept: Sequence[Update]) -> list[float]:
        """Return the weights of the kept updates; they sum to one."""
        if self.weighting == "equal":
            return [1.0 / len(kept)] * len(kept)
        total = math.fsum(update.weight for update in kept)
        return [max(update.weight / total, sys.float_info.min) for update in kept]  # one that underflows was kept all the same
