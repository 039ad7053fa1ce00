"""One training round as a rule sees it, and what the rule decides."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import working_dtype
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import Matrix, VectorSpread
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.rules import Rule
from flwr_robustcomp.spans import Span, decompress_spans
from flwr_robustcomp.strategies.aggregation import weighted_sum
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.screening import Update
from flwr_robustcomp.strategies.report import Rejection
from flwr_robustcomp.strategies.server_step import LARGEST_STEP
from flwr_robustcomp.strategies.sketch import Runs
from flwr_robustcomp.strategies.sort_norm import sort_norm

__all__ = ["Outcome", "Round", "SkippedRound", "check_outcome"]


@dataclass(frozen=True)
class Round:
    """The accepted replies of a training round: screened, at least one, and as many as the quorum asks.

    Attributes
    ----------
    number : int
        The server round, from 1.
    packing : Packing
        How updates travel.
    layout : Layout
        Of w_t.
    spans : sequence of Span
        The vectors that are compressed, each with the compressor that reads its payloads.
    model : mapping of str to Tensor
        w_t; not to be written to.
    updates : sequence of Update
        m of them, in the order of their node ids.
    rejected : sequence of Rejection
        The replies that failed screening.
    policy : Policy
        The strategy's.
    left_out : int
        How many nodes were not asked because they had sent garbage before.

    Examples
    --------
    >>> import statistics
    >>> from flwr_robustcomp.strategies import CompressedStrategy, Outcome, Round
    >>> class Clipped(CompressedStrategy):
    ...     def aggregate(self, round_: Round, state):
    ...         norms = round_.norms()
    ...         bound = statistics.median(norms)
    ...         weights = [min(1.0, bound / max(norm, 1e-12)) / len(round_) for norm in norms]
    ...         return Outcome(round_.sum(weights), weights)
    """

    number: int
    packing: Packing
    layout: Layout
    spans: Sequence[Span]
    model: Mapping[str, Tensor]
    updates: Sequence[Update]
    rejected: Sequence[Rejection]
    policy: Policy
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def nodes(self) -> list[int]:
        """The node ids of the updates."""
        return [update.node_id for update in self.updates]

    def without(self, nodes: Container[int]) -> Round:
        """Return the same round without the updates of some nodes."""
        return replace(self, updates=[update for update in self.updates if update.node_id not in nodes])

    def to_trim(self, trim: int | float) -> int:
        """Return how many updates a trim stands for, as the policy counts (`Policy.to_trim`)."""
        return self.policy.to_trim(trim, self.rejected, len(self), self.left_out)

    def left_to_trim(self, trim: int | float, *, short: bool = False) -> int | float:
        """Return what rejected replies leave of a trim, as the policy counts (`Policy.left_to_trim`)."""
        return self.policy.left_to_trim(trim, self.rejected, self.left_out, short=short)

    def norms(self, order: float = 2) -> list[float]:
        """Return the norm by which each update is sorted, m of them.

        Parameters
        ----------
        order : float
            q, one of 1, 2 and inf; where clients report norms, the order of these.

        Returns
        -------
        list of float
            ||Q(x)||_q; where clients report ||x||_q, what `sort_norm` makes of both.
        """
        compressors = [span.compressor for span in self.spans]
        return [
            sort_norm(list(zip(compressors, update.payloads, strict=True)), order, update.reported_norm)
            for update in self.updates
        ]

    def gram(self, runs: Sequence[Runs | None] | None = None) -> Matrix:
        """Return the inner products of the updates, shape (m, m), float64, from the packed form.

        Parameters
        ----------
        runs : sequence, optional
            For each span the runs of coordinates that the products come from, None for all of them (`sketch.choose_runs`).
        """
        chosen = [None] * len(self.spans) if runs is None else runs
        parts = [
            span.compressor.inner_products([update.payloads[i] for update in self.updates], runs_of_span)
            for i, (span, runs_of_span) in enumerate(zip(self.spans, chosen, strict=True))
        ]
        return np.asarray(np.sum(parts, axis=0))

    def signs(self) -> Matrix:
        """Return the shares of coordinates that are negative, zero and positive, shape (m, 3), from the packed form."""
        counts = [
            [span.compressor.sign_counts(payload) for span, payload in zip(self.spans, update.payloads, strict=True)]
            for update in self.updates
        ]
        return np.asarray(np.sum(counts, axis=1) / self.layout.dim, np.float64)

    def dot(self, x: Tensor) -> Matrix:
        """Return the inner products of the updates with a vector, shape (d,), from the packed form: shape (m,), float64."""
        parts = [
            span.compressor.dot([update.payloads[i] for update in self.updates], x[span.start : span.stop])
            for i, span in enumerate(self.spans)
        ]
        return np.asarray(np.sum(parts, axis=0))

    def sum(self, weights: Sequence[float]) -> Tensor:
        """Return sum_i weights[i] Q(x_i), shape (d,), from the packed form; an update of weight 0 is not touched.

        Raises
        ------
        SkippedRound
            For a weight that no float32 vector can be multiplied by: a rule that divides by a client's norm has no say in it.
        """
        if not all(abs(weight) <= LARGEST_STEP for weight in weights):
            raise SkippedRound("a weight overflows")
        used = [(update, float(weight)) for update, weight in zip(self.updates, weights, strict=True) if weight != 0]
        return weighted_sum([u for u, _ in used], [w for _, w in used], self.layout, self.spans)

    def combine(self, rule: Rule, coefficients: Matrix, trim: int) -> tuple[Tensor, Matrix]:
        """Return what a rule makes of k combinations of the updates, from the packed form.

        Parameters
        ----------
        rule : Rule
            The mean, or one by coordinates.
        coefficients : numpy.ndarray, shape (k, m), float64
            What filters left (`chain_rows`).
        trim : int
            How many of the k may be Byzantine.

        Returns
        -------
        (Tensor, shape (d,), numpy.ndarray, shape (k,))
            The aggregate, and which share of each combination is in it, by the l1 norm.
        """
        total = torch.zeros(self.layout.dim, dtype=working_dtype(self.layout.dtype))
        parts = [
            rule.combine(total[s.start : s.stop], s.compressor, [u.payloads[i] for u in self.updates], coefficients, trim)
            for i, s in enumerate(self.spans)
        ]
        return total, functools.reduce(operator.add, parts).shares

    def rows(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the updates as rows, shape (m, d); beyond them one vector at a time is in memory."""
        rows = torch.empty(len(self), self.layout.dim, dtype=dtype)
        for row, update in zip(rows, self.updates, strict=True):
            row.copy_(decompress_spans(update.payloads, self.spans, dtype))
        return rows


@dataclass(frozen=True)
class Outcome:
    """What a rule makes of a round: w_{t+1} = w_t - step_size * step.

    Attributes
    ----------
    step : Tensor, shape (d,)
        What moves the model.
    weights : sequence of float, m of them
        What each update of the round counted; 0 for one that was trimmed.
    step_size : float
        gamma.
    norms : mapping of int to float
        The norm that each update was judged by, by node id; empty where none was computed.
    threshold : float or None
        The largest kept norm, where norms decided.
    state : mapping of str to Tensor
        Vectors of shape (d,) for the next round. The base class keeps them, and checkpoints have them.
    weakened : str or None
        For how many liars less than asked the rule could work with the updates that came, in words.
    survived : mapping of int to float
        Which share of each update went into the step, by node id, as in `RoundReport`. Empty where the rule does not say.
    spread : VectorSpread or None
        How unlike the updates were, as filters on inner products saw them; None where none looked at these.
    aside : mapping of str to Tensor, optional
        The new values of the arrays that travel uncompressed; by default medians of what the nodes sent.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.strategies import Outcome
    >>> outcome = Outcome(torch.tensor([0.5, -0.5]), weights=[0.5, 0.5, 0.0], step_size=0.1)
    >>> outcome.weights.count(0.0)
    1
    """

    step: Tensor
    weights: Sequence[float]
    step_size: float = 1.0
    norms: Mapping[int, float] = field(default_factory=dict)
    threshold: float | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)
    weakened: str | None = None
    survived: Mapping[int, float] = field(default_factory=dict)
    spread: VectorSpread | None = None
    aside: Mapping[str, Tensor] | None = None


class SkippedRound(Exception):
    """To be raised by a rule that cannot decide: the round leaves the model as it is.

    Parameters
    ----------
    why : str
        For the report and the log.
    norms : mapping of int to float, optional
        As in `Outcome`.
    trimmed : mapping of int to float, optional
        The norms of the updates that were set aside until then, by node id.

    Examples
    --------
    >>> from flwr_robustcomp.strategies import CompressedStrategy, Outcome, SkippedRound
    >>> class AtLeastFive(CompressedStrategy):
    ...     def aggregate(self, round_, state):
    ...         if len(round_) < 5:
    ...             raise SkippedRound("fewer than five updates")
    ...         weights = [1 / len(round_)] * len(round_)
    ...         return Outcome(round_.sum(weights), weights)
    """

    def __init__(
        self, why: str, *, norms: Mapping[int, float] | None = None, trimmed: Mapping[int, float] | None = None
    ) -> None:
        super().__init__(why)
        self.norms = dict(norms or {})
        self.trimmed = dict(trimmed or {})


def check_outcome(outcome: object, round_: Round, rule: str) -> str | None:
    """Return why a round cannot be concluded with what a rule returned; None if it can.

    Raises
    ------
    ConfigurationError
        Where no reply has a part in it: for another type, shape or number, or a negative weight.
    """
    if not isinstance(outcome, Outcome):
        raise ConfigurationError(f"{rule}.aggregate must return an Outcome, got {type(outcome).__name__}")
    shape, count, m = (round_.layout.dim,), len(outcome.weights), len(round_)
    _check_vector(f"the step of {rule}", outcome.step, shape)
    require(count == m, f"weights of {rule}", count, f"one for each of {m} updates")
    require(not any(weight < 0 for weight in outcome.weights), f"weights of {rule}", list(outcome.weights)[:8], "not negative")
    for name, vector in outcome.state.items():
        _check_vector(f"state {name!r} of {rule}", vector, shape)
    if not all(map(math.isfinite, outcome.weights)):
        return "a weight is not finite"
    return None if abs(outcome.step_size) <= LARGEST_STEP else "the step size overflows"


def _check_vector(what: str, vector: object, shape: tuple[int, ...]) -> None:
    fits = isinstance(vector, Tensor) and vector.is_floating_point() and tuple(vector.shape) == shape
    got = f"{vector.dtype} {tuple(vector.shape)}" if isinstance(vector, Tensor) else type(vector).__name__
    require(fits, what, got, f"a Tensor of floats of shape {shape}")
