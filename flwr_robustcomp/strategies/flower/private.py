"""Flower's wrappers for differential privacy: where they may stand, and what they need of model and replies."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    QFedAvg,
    Strategy,
)
from torch import Tensor

from flwr_robustcomp.callers import callers
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.flower.inner import layers_of
from flwr_robustcomp.strategies.replies.screening import Screened, Update
from flwr_robustcomp.strategies.report import Reason, Rejection

__all__ = [
    "CLIP_RECORD",
    "PRIVATE",
    "SPENT_RECORD",
    "check_model",
    "check_wrapped",
    "is_clipped",
    "leave_out",
    "never_zero",
    "private_state",
    "restore_private",
]

CLIP_RECORD = "robustcomp.clipping-norm"
"""Name of the ConfigRecord in a checkpoint that keeps where adaptive clipping is."""

SPENT_RECORD = "robustcomp.privacy-spent"
"""Name of the ConfigRecord in a checkpoint that keeps an accountant."""

_CLIPS = (DifferentialPrivacyServerSideFixedClipping, DifferentialPrivacyServerSideAdaptiveClipping)
PRIVATE = (*_CLIPS, DifferentialPrivacyClientSideFixedClipping, DifferentialPrivacyClientSideAdaptiveClipping)
"""Flower's wrappers for differential privacy. Each adds noise to the model, the first two clip replies before."""

_ADAPTIVE = (DifferentialPrivacyServerSideAdaptiveClipping, DifferentialPrivacyClientSideAdaptiveClipping)
_READ_REPLIES = (*_CLIPS, DifferentialPrivacyClientSideAdaptiveClipping)

NORM_BIT = "norm_bit"
"""The metric in which Flower's `adaptiveclipping_mod` tells whether it clipped."""


def check_wrapped(strategy: Strategy) -> None:
    """Refuse to be wrapped by what reads replies before they are screened; to be called in ``configure_train``.

    Raises
    ------
    ConfigurationError
        In one line, with the right order.
    """
    for _, owner in callers("flwr", {"configure_train"}):
        if isinstance(owner, _READ_REPLIES):
            wrapper, name = type(owner).__name__, type(strategy).__name__
            inside = "strategy" if name == "Decompressed" else "FedAvg()"
            raise ConfigurationError(
                f"{wrapper} must stand inside, where replies are decompressed: Decompressed({wrapper}({inside}, ...), "
                f"compressor=...), got it around {name}, whose replies are packed"
            )


def is_clipped(strategy: Strategy) -> bool:
    """Whether one of the layers clips replies on the server."""
    return any(isinstance(layer, _CLIPS) for layer in layers_of(strategy))


def check_model(strategy: Strategy, model: Mapping[str, Tensor]) -> None:
    """Refuse a model that Flower's clipping on the server cannot read, or would not clip.

    Raises
    ------
    ConfigurationError
        If it has arrays that are no float32 or float64, which Flower's clipping multiplies by a fraction in their own type, or
        scalars, which it silently leaves as long as they are.
    """
    if not is_clipped(strategy):
        return
    bad = [n for n, t in model.items() if t.dtype not in (torch.float32, torch.float64) or t.ndim == 0]
    if bad:
        raise ConfigurationError(
            f"model must hold float32 or float64 arrays of one dimension or more, for {type(layers_of(strategy)[0]).__name__} "
            f"clips no others, got {', '.join(f'{n} ({model[n].dtype}, {model[n].ndim} dimensions)' for n in bad[:8])}"
        )


def never_zero(w: Tensor, step: Tensor) -> Tensor:
    """Return w - step, shape (d,), with one entry moved by its last bit where the step is zero.

    Flower's clipping divides by the length of an update, so a reply without a change would end the run.
    """
    moved = w - step
    if len(w) and torch.equal(moved, w):
        i = int(w.abs().argmax())
        least = max(1e-15, float(w[i].abs()) * torch.finfo(w.dtype).eps)  # its square is not zero in float32
        moved[i] += least
    return moved


def leave_out(screened: Screened, strategy: Strategy, core: FedAvg) -> None:
    """Reject, in place, the accepted replies on whose metrics a strategy of Flower's would raise, or compute NaN.

    Notes
    -----
    These are the metrics that go into arithmetic besides the weight: q-FedAvg's loss, and the bit of adaptive clipping on the
    client. With an accountant Flower asks for equal weights: those who have another weight than most are left out.
    """
    layers, accepted = layers_of(strategy), list(screened.accepted)
    weight = _usual_weight(accepted) if any(getattr(one, "accountant", None) for one in layers) else None
    for update in accepted:
        why = _fault(update, layers)
        if why is None and weight is not None and update.weight != weight:
            why = f"metric {core.weighted_by_key!r} must be {weight:g}, as of most clients: the accountant weights them equally"
        if why is not None:
            screened.accepted.remove(update)
            screened.rejected.append(Rejection(update.node_id, Reason.METRICS, why))


def _fault(update: Update, layers: Sequence[Strategy]) -> str | None:
    for layer in layers:
        if isinstance(layer, QFedAvg):
            loss = update.metrics.get(layer.train_loss_key)
            if not isinstance(loss, int | float) or not 0 <= loss < math.inf:
                return f"metric {layer.train_loss_key!r} must be a number from 0, which QFedAvg weights by"
        elif isinstance(layer, DifferentialPrivacyClientSideAdaptiveClipping) and update.metrics.get(NORM_BIT) not in (0, 1):
            return f"metric {NORM_BIT!r} must be 0 or 1: list adaptiveclipping_mod after the compression"
    return None


def _usual_weight(accepted: Sequence[Update]) -> float | None:
    """Return the weight that more than half of the clients have, None if there is none."""
    counts = Counter(update.weight for update in accepted)
    value, count = max(counts.items(), key=lambda item: item[1], default=(0.0, 0))
    return value if 2 * count > len(accepted) else None


def private_state(wrapper: Strategy) -> RecordDict:
    """Return what one of Flower's wrappers carries to the next round, besides the strategy in it.

    Raises
    ------
    ConfigurationError
        If it has an accountant whose ``state_dict`` is not JSON: a run that goes on would forget what privacy it has spent.
    """
    state = RecordDict()
    if isinstance(wrapper, _ADAPTIVE):
        state[CLIP_RECORD] = ConfigRecord({"norm": float(wrapper.clipping_norm)})
    if (accountant := getattr(wrapper, "accountant", None)) is not None:
        try:
            spent = json.dumps(accountant.state_dict())
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(f"accountant must have a state_dict() that JSON can hold, got {error}") from error
        state[SPENT_RECORD] = ConfigRecord({"accountant": spent})
    return state


def restore_private(wrapper: Strategy, state: RecordDict) -> None:
    """Go on from what `private_state` returned; `ConfigurationError` for anything else."""
    if isinstance(wrapper, _ADAPTIVE):
        record = state.get(CLIP_RECORD)
        norm = record.get("norm") if isinstance(record, ConfigRecord) else None
        if not isinstance(norm, float) or not 0 < norm < math.inf:
            raise ConfigurationError(f"{CLIP_RECORD}.norm must be a positive number, got {norm!r}")
        wrapper.clipping_norm = norm
    if (accountant := getattr(wrapper, "accountant", None)) is not None:
        record = state.get(SPENT_RECORD)
        try:
            accountant.load_state_dict(json.loads(str(record["accountant"] if isinstance(record, ConfigRecord) else None)))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{SPENT_RECORD} must hold the state of this accountant, got {error}") from error
