"""The server's own update from a small clean sample: a callable of the user's, asked once a round, and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import vector_norm
from flwr_robustcomp.errors import ConfigurationError, WireError, require
from flwr_robustcomp.filters import FILTERS, Beside, Filter, Matrix, Root
from flwr_robustcomp.strategies.aggregation import is_finite_model
from flwr_robustcomp.strategies.round import Round

__all__ = ["AskedRoot", "RootFunction", "TrustedRoot", "checked_root"]

RootFunction = Callable[[int, ArrayRecord], ArrayRecord | Mapping[str, Any]]
"""(server round, model) -> the model after training, as an ArrayRecord or a ``state_dict`` of tensors or NumPy arrays."""


_HALVINGS = 4
"""A step that still raises the loss is made at a sixteenth of its length: training must go on, and a small loss is noisy."""


@dataclass(frozen=True)
class TrustedRoot:
    """What `RobustCompressed` calls to see for itself; a function alone stands for ``TrustedRoot(function)``.

    Parameters
    ----------
    train : callable
        ``train(server_round, arrays)`` trains the model in ``arrays`` on the server's clean sample, as clients do. It returns
        what a client replies with: all arrays of the model, as an ArrayRecord or a mapping of names to arrays.
    loss : callable, optional
        ``loss(server_round, arrays)`` returns the model's loss on that sample, a number. Filters such as `Zeno` ask for it, and
        a step that raises it is halved.
    reply : {"weights", "update"}
        Whether ``train`` returns new weights, or the update that the server subtracts (a gradient, say).
    share : float
        lambda in [0, 1), how much of the aggregate is the root's own update where a filter looks at it.

    Raises
    ------
    ConfigurationError
        At construction for what cannot be called.

    Notes
    -----
    The arguments are those of Flower's ``evaluate_fn``. The update has the sign of the clients': x = w_t - w. What goes wrong
    in ``train`` skips the round, with a reason that names the fault: an exception, other arrays or shapes, NaN, a zero update.
    So does ``loss`` where it fails at the model itself; where it fails at the model less one update, that update has an
    infinite loss.

    *The share.* The aggregate is (1 - lambda) g + lambda x_0 with g what the filters make of the updates. With `FLTrust` g is
    at most ||x_0|| long, and <g, x_0> > 0. So the aggregate is at most ||x_0|| long, and its product with x_0 is at least
    lambda ||x_0||^2, whatever the clients send, before it is halved. Cao et al. 2021 have lambda = 0. Then liars who copy one
    honest node can fill the mean with it, and what only nodes without trust had seen is not learnt (docs/adr/0036).

    *The length.* The root is one trainer, and every step has about its length: where its training goes astray in a round, so
    does the model. With a ``loss`` the step is halved while it raises the loss on the sample, four times at most: the loss is
    no higher after the step than before, or the step is a sixteenth of itself, and the four longer ones raised the loss. It
    looks at nothing that a client sent but the step itself, so that no client can hold it up by more than that.

    Examples
    --------
    >>> from flwr_robustcomp import Drive, RobustCompressed, TrustedRoot
    >>> def train(server_round, arrays):
    ...     return {name: 0.9 * array.numpy() for name, array in arrays.items()}
    >>> RobustCompressed(compressor=Drive(), root=train).root == TrustedRoot(train)
    True
    """

    train: RootFunction
    loss: Callable[[int, ArrayRecord], float] | None = None
    reply: Literal["weights", "update"] = "weights"
    share: float = 0.25

    def __post_init__(self) -> None:
        require(callable(self.train), "root", self.train, "callable, as train(server_round, arrays)")
        require(
            self.loss is None or callable(self.loss), "loss of the root", self.loss, "callable, as loss(server_round, arrays)"
        )
        replies = get_args(Literal["weights", "update"])
        require(self.reply in replies, "reply of the root", self.reply, f"one of {', '.join(replies)}")
        number = isinstance(self.share, int | float) and not isinstance(self.share, bool)
        require(number and 0 <= self.share < 1, "share of the root", self.share, "in [0, 1)")

    @classmethod
    def of(cls, root: RootFunction | TrustedRoot | None) -> TrustedRoot | None:
        """Return a root as one of these, None for none."""
        return root if root is None or isinstance(root, cls) else cls(root)  # type: ignore[arg-type]

    @property
    def shows(self) -> tuple[str, ...]:
        """Fields of `Beside` that it can fill."""
        return ("root",) if self.loss is None else ("root", "losses")

    def asked(self, round_: Round, filters: Sequence[Filter], longest: float) -> AskedRoot:
        """Return what it says in a round, as far as the filters trust it.

        Parameters
        ----------
        round_ : Round
            With the updates that filters see.
        filters : sequence of Filter
            Those of the strategy.
        longest : float
            The largest norm that what follows can compute with.

        Raises
        ------
        ConfigurationError
            Naming the fault.
        """
        wanted = {what for one in filters for what in one.looks_at}
        trusted = any(one.trusts_root for one in filters)
        x = aside = None
        if "root" in wanted or (trusted and round_.layout.uncompressed):
            x, aside = self._update(round_)
        if "root" not in wanted:
            x = None  # trained for the arrays that stand aside alone
        if x is not None:
            norm = vector_norm(x, 2)
            require(0 < norm <= longest, "norm of the root's update", norm, f"above 0 and at most {longest:.2g}")
        if "losses" in wanted:
            found = self._loss(round_, round_.model)
            require(math.isfinite(found), "loss of the root at the model", found, "finite")
        return AskedRoot(self, round_, x, aside if trusted else None)

    def _update(self, round_: Round) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x, shape (d,), and the arrays that stand aside."""
        layout = round_.layout
        try:
            found = self.train(round_.number, wire.to_arrays(round_.model))
            theirs = _tensors(found)
        except ConfigurationError:
            raise
        except Exception as error:  # the user's function may raise anything, and a round is to be skipped, not the run ended
            raise ConfigurationError(f"the root raised {_told(error)}") from error
        if theirs.keys() != layout.names:
            raise ConfigurationError(f"the root must return the model's arrays {sorted(layout.order)}, got {sorted(theirs)}")
        for slot in (*layout.compressed, *layout.uncompressed):
            own = theirs[slot.name]
            require(own.shape == slot.shape, f"shape of the root's {slot.name!r}", tuple(own.shape), f"{tuple(slot.shape)}")
            require(not own.is_complex(), f"dtype of the root's {slot.name!r}", own.dtype, f"{slot.dtype}")
        require(is_finite_model(theirs), "arrays of the root", "NaN or inf", "finite")
        flat = layout.flatten(theirs)
        x = flat if self.reply == "update" else layout.flatten(round_.model).sub_(flat)
        return x, {slot.name: theirs[slot.name].to(slot.dtype) for slot in layout.uncompressed}

    def _loss(self, round_: Round, model: Mapping[str, Tensor]) -> float:
        if self.loss is None:  # `shows` has said so
            raise ConfigurationError("loss of the root must be given where a filter asks for losses, got None")
        try:
            return float(self.loss(round_.number, wire.to_arrays(model)))
        except Exception as error:  # as in `_update`
            raise ConfigurationError(f"the loss of the root raised {_told(error)}") from error


def checked_root(root: RootFunction | TrustedRoot | None, filters: Sequence[Filter]) -> TrustedRoot | None:
    """Return the root of a strategy; None for none.

    Raises
    ------
    ConfigurationError
        For what cannot be called, or where no filter would look at it.
    """
    own = TrustedRoot.of(root)
    looked = any(what in ("root", "losses") for one in filters for what in one.looks_at)
    looking = [name for name, one in FILTERS.items() if one.trusts_root]
    require(own is None or looked, "root", root, f"left out where no filter looks at it, as {' and '.join(looking)} do")
    return own


@dataclass(frozen=True)
class AskedRoot:
    """What a root said in one round.

    Attributes
    ----------
    root : TrustedRoot
        Who.
    round_ : Round
        With the updates that filters see.
    x : Tensor, shape (d,), or None
        The root's update, where a filter asks for it.
    aside : mapping of str to Tensor, or None
        Its values of the arrays that travel uncompressed, where a filter trusts it.
    """

    root: TrustedRoot
    round_: Round
    x: Tensor | None
    aside: Mapping[str, Tensor] | None

    def beside(self, other: Beside) -> Beside:
        """Return what filters may ask for, with the root in it."""
        x = self.x
        own = None if x is None else (lambda: Root(vector_norm(x, 2), self.round_.dot(x)))
        return replace(other, root=own, losses=None if self.root.loss is None else self._losses)

    def joined(self, aggregate: Tensor) -> Tensor:
        """Return the aggregate, shape (d,), with the root's share in it, halved while it raises the loss on the sample."""
        if self.x is None:
            return aggregate
        share = self.root.share
        joined = aggregate.mul(1 - share).add_(self.x.to(aggregate.dtype), alpha=share)
        if self.root.loss is None:
            return joined
        before = self.root._loss(self.round_, self.round_.model)
        for _ in range(_HALVINGS if math.isfinite(before) else 0):
            if self._loss_at(joined) <= before:
                break
            joined = joined.div_(2)
        return joined

    def _losses(self, mixing: Matrix) -> Matrix:
        """Return the losses of the model less mixtures of the updates, shape (k,); one mixture is in memory at a time."""
        return np.array([self._loss_less(row) for row in mixing])

    def _loss_less(self, weights: Matrix) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and is told so
            return self._loss_at(self.round_.sum(weights.tolist()))

    def _loss_at(self, step: Tensor) -> float:
        """Return the loss of the model less a step, shape (d,); infinite where it cannot be computed."""
        round_ = self.round_
        flat = round_.layout.flatten(round_.model).sub_(step)
        model = {**round_.model, **round_.layout.split(flat)}
        if not is_finite_model(model):
            return math.inf
        try:
            return self.root._loss(round_, model)
        except ConfigurationError:  # at w it did not fail: it is the update's fault
            return math.inf


def _tensors(found: object) -> dict[str, Tensor]:
    """Read what a root returned."""
    if isinstance(found, ArrayRecord):
        try:
            return wire.from_arrays(found)
        except WireError as error:
            raise ConfigurationError(f"the root must return readable arrays: {error}") from error
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"the root must return an ArrayRecord or a mapping of arrays, got {type(found).__name__}")
    return {str(name): torch.as_tensor(value).detach().cpu() for name, value in found.items()}


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
