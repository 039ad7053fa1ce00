"""Differential privacy on the client: Flower's mods stand inside of the compression, and what is sent keeps their bound."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from flwr.app import ConfigRecord, Message
from torch import Tensor

from flwr_robustcomp.callers import callers
from flwr_robustcomp.compressors import vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.spans import Span, compress_spans

__all__ = ["CLIPPING_NORM", "check_mod_order", "within_clip"]

CLIPPING_NORM = "clipping_norm"
"""The key of a request's ConfigRecord under which Flower's wrappers for clipping on the client send the bound."""

_SLACK = 1e-6
"""Relative: rounding of a norm in float32."""

_TRIES = 4


def check_mod_order() -> None:
    """Refuse to work inside of one of Flower's mods for differential privacy.

    Raises
    ------
    ConfigurationError
        In one line, with the right order. Outside of the compression such a mod would clip packed bits, or add noise to them.
    """
    for name, owner in callers("flwr", {"fixedclipping_mod", "adaptiveclipping_mod", "__call__"}):
        kind = name if owner is None else type(owner).__name__
        if kind in ("fixedclipping_mod", "adaptiveclipping_mod", "LocalDpMod"):
            raise ConfigurationError(
                f"mods must list {kind} after the compression, which packs what it has clipped: "
                f"ClientApp(mods=[CompressionMod(...), {kind}]), got it before"
            )


def within_clip(
    message: Message,
    model: Mapping[str, Tensor],
    x: Tensor,
    aside: Mapping[str, Tensor],
    residual: Tensor | None,
    *,
    spans: Sequence[Span],
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor | None]:
    """Return what to compress, so that what is sent is no longer than the clipping norm that the server asks for.

    Parameters
    ----------
    message : Message
        The server's request.
    model : mapping of str to Tensor
        w_t.
    x : Tensor, shape (d,), working precision
        The update.
    aside : mapping of str to Tensor
        The client's new values of the arrays that travel uncompressed.
    residual : Tensor, shape (d,), or None
        e of error feedback.
    spans, rng
        What is compressed next. The generator is left as it is.

    Returns
    -------
    x : Tensor, shape (d,)
        As given, without a clipping norm C in the request. Otherwise a multiple a (x + e) with a <= 1, so that Q of it and the
        change of the uncompressed arrays are together at most C long, within a millionth.
    residual : Tensor or None
        As given without a clipping norm, else None: e is in x already. What clipping cuts off is dropped for good, as without
        compression; the next residual is a (x + e) - Q(a (x + e)).

    Raises
    ------
    ConfigurationError
        If the clipping norm is no positive number, if the uncompressed arrays alone move farther than it, or if the compressor
        sends more than it is given however short that is.

    Notes
    -----
    Flower's clipping mods bound x. That is not what is sent: error feedback adds e afterwards, and an unbiased quantiser is
    longer than its argument. The sensitivity that the server's noise is made for is that of the sum of what is sent. The length
    of Q is measured and not derived: this compresses once more, with a copy of the generator, so the bound holds for that very
    payload.
    """
    bound = _clipping_norm(message)
    if bound is None:
        return x, residual
    moved = math.hypot(*(_distance(tensor, model[name]) for name, tensor in aside.items()))
    if moved > bound:
        raise ConfigurationError(
            f"the arrays that travel uncompressed ({', '.join(sorted(aside)[:8])}) must move by at most the "
            f"{CLIPPING_NORM} = {bound:g} of the request, got {moved:g}"
        )
    room = math.sqrt(bound**2 - moved**2)
    p = x if residual is None else x + residual
    length = vector_norm(p, 2)
    for _ in range(_TRIES):
        if length > room:
            p = p * (room / length)
        payloads = compress_spans(p, spans, copy.deepcopy(rng))
        length = math.hypot(*(s.compressor.norm(payload) for s, payload in zip(spans, payloads, strict=True)))
        if length <= room * (1 + _SLACK):
            LOG.info("What is sent is clipped at %s = %.4f", CLIPPING_NORM, bound)
            return p, None
    named = ", ".join(dict.fromkeys(repr(span.compressor) for span in spans))
    raise ConfigurationError(
        f"compressor must send at most the {CLIPPING_NORM} = {bound:g} of the request, and {named} sends {length:g} "
        f"of a vector that is {vector_norm(p, 2):g} long: choose one that scales with its argument"
    )


def _clipping_norm(message: Message) -> float | None:
    """Return the bound of the request, None where there is none."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord) and CLIPPING_NORM in record:
            value = record[CLIPPING_NORM]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"{CLIPPING_NORM} of the request must be a positive number, got {value!r}")
            return float(value)
    return None


def _distance(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a.to(torch.float64) - b.to(torch.float64)))
