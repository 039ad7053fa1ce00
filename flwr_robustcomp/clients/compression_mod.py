"""The client mod that packs what a training function replies with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.error_feedback import RESIDUAL, compress_with_feedback
from flwr_robustcomp.clients.exchange import Exchange, TrainingMod
from flwr_robustcomp.clients.node import is_training, partition_of, report_delta, round_of, seed_of
from flwr_robustcomp.clients.privacy import check_mod_order, within_clip
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, missing_entries
from flwr_robustcomp.compressors import NORM_ORDERS, Choice, Compressor, Payload, keeping_zeros, vector_norm
from flwr_robustcomp.errors import require
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.spans import Span, compress_rows, draws, measured_deltas

__all__ = ["CompressionMod", "Packed"]


class CompressionMod(TrainingMod):
    """Compress the update in a training reply; works with anybody's ``@app.train()`` unchanged.

    Parameters
    ----------
    compressor, granularity, uncompressed
        Those of `Packing`, equal to the server's; or a `Packing` as ``compressor``.
    error_feedback : bool
        Keep what compression drops in `Context.state` and add it to the next update (Algorithm 3).
    reply : {"weights", "update"}
        Whether the training function replies with new weights w_local, of which x = w_t - w_local is formed, or with x itself.
    report_norm : {1, 2, inf}, optional
        Also send ||p||_q of the vector before compression, which Algorithm 1 sorts by.
    seed : int, optional
        Seed of randomized compressors; by default the run config's ``seed``, else 0.
    report_delta : bool
        Also send the metric ``robustcomp.delta`` = 1 - ||Q(p) - p||^2 / ||p||^2, what this round's compression achieved, in the
        reply's MetricRecord or, where it has none, in one of its own. Strategies report the median. Costs one decompression
        where there is no error feedback, which has it anyway.
    key : str, optional
        The key of the model's ArrayRecord in the server's message and in the reply. By default it is the only one, or the one
        under the same key in both, or ``"arrays"`` (`model_keys`). Further records travel as they are.
    partial : bool
        Whether a reply may hold some of the model's arrays only, as where a client keeps its own last layers. The others count
        as unchanged. With error feedback their residual waits until they are sent again.

    Raises
    ------
    ConfigurationError
        At construction for a bad parameter; in a round if the reply does not hold the model's arrays, which Flower reports to
        the server as an error of this node.

    Notes
    -----
    The reply keeps its other records; the model's ArrayRecord holds packed Arrays (`wire`). The sign is that of the paper: the
    server subtracts what it receives. x is formed in working precision (float32 for the half types) and cast to the model's
    dtype before compression; with error feedback the residual keeps what that cast dropped too.

    Position in the list of mods is the threat model: a mod listed before this one touches the packed reply.

    Examples
    --------
    >>> from flwr.clientapp import ClientApp
    >>> from flwr_robustcomp import CompressionMod, Drive
    >>> app = ClientApp(mods=[CompressionMod(Drive(), error_feedback=True)])
    """

    def __init__(
        self,
        compressor: Compressor | Choice | Packing,
        *,
        error_feedback: bool = False,
        granularity: Granularity | None = None,
        reply: Reply = "weights",
        report_norm: float | None = None,
        uncompressed: Sequence[str] | None = None,
        seed: int | None = None,
        report_delta: bool = False,
        key: str | None = None,
        partial: bool = False,
    ) -> None:
        self.packing = Packing.of(compressor, granularity, uncompressed)
        self.uncompressed = self.packing.uncompressed
        check_reply(reply)
        require(report_norm is None or report_norm in NORM_ORDERS, "report_norm", report_norm, "one of 1, 2, inf, None")
        self.error_feedback = error_feedback
        self.reply = reply
        self.report_norm = report_norm
        self.seed = seed
        self.report_delta = report_delta
        self.key = key
        moving = [q for q in map(keeping_zeros, self.packing.compressors) if not (q.keeps_zeros or q.wants_matrices)]
        named = ", ".join(map(repr, moving))
        require(not (partial and moving), "partial", partial, f"False with {named}, which moves what a reply leaves out")
        self.partial = partial

    def __repr__(self) -> str:
        return f"CompressionMod({self.packing}, error_feedback={self.error_feedback}, reply={self.reply!r})"

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train, form x, add the residual, compress, keep what was dropped, reply with packed Arrays."""
        if is_training(message):
            check_mod_order()
        return super().__call__(message, context, call_next)

    def rewrite(self, exchange: Exchange, context: Context) -> None:
        """Replace the model's arrays by packed ones."""
        layout, server_round = exchange.layout, round_of(exchange.message)
        x, aside = dense_update(layout, exchange.model, exchange.arrays, self.reply, partial=self.partial)
        missing = missing_entries(layout, exchange.arrays) if self.partial else None
        spans = self.packing.spans(layout, server_round)
        rng = self.generator(seed_of(context, self.seed), server_round, partition_of(context)) if draws(spans) else None
        held = residual = None
        if self.error_feedback:
            residual = RESIDUAL.load(context.state, layout.dim, x.dtype)
            if residual is not None and missing is not None:  # what these arrays lack waits until they are sent again
                held = residual * missing
                residual = residual - held
        x, residual = within_clip(exchange.message, exchange.model, x, aside, residual, spans=spans, rng=rng)
        packed = self.pack(x[None], [residual], spans, [rng])

        arrays = ArrayRecord()
        for span, payload in zip(spans, packed.payloads[0], strict=True):
            arrays[span.name or wire.MODEL_ARRAY] = wire.pack(payload, span.compressor)
        for name, tensor in aside.items():
            arrays[name] = wire.to_array(tensor)
        exchange.write(arrays)
        content = exchange.answer.content
        if self.report_norm is not None:
            content[wire.NORM_RECORD] = ConfigRecord({wire.norm_key(self.report_norm): packed.norms[0]})
        if self.report_delta:
            report_delta(content, packed.deltas[0])
        if packed.residuals is not None:
            # Last: had anything above raised, nothing would have been sent, and e must stay as it was (docs/adr/0004).
            dropped = packed.residuals[0]
            context.state[RESIDUAL.record] = RESIDUAL.kept(dropped if held is None else dropped + held)

    @staticmethod
    def generator(seed: int, round_: int, partition: int) -> np.random.Generator:
        """Return what a node draws from in a round."""
        return generator(seed, "compress", round_=round_, partition=partition)

    def pack(
        self,
        rows: Tensor,
        residuals: Sequence[Tensor | None],
        spans: Sequence[Span],
        rngs: Sequence[np.random.Generator | None],
    ) -> Packed:
        """Compress the updates of k nodes; what this mod does, without any message.

        Parameters
        ----------
        rows : Tensor, shape (k, d), working precision
            The updates; with error feedback the residuals are added in place.
        residuals : sequence of Tensor, shape (d,), or None; k of them
            What earlier rounds dropped.
        spans : sequence of Span
            The vectors that are compressed.
        rngs : sequence of numpy.random.Generator or None; k of them
            For randomized compressors.
        """
        dropped = None
        if self.error_feedback:
            payloads, dropped = compress_with_feedback(rows, residuals, spans, rngs)
        else:
            payloads = compress_rows(rows, spans, rngs)
        order = self.report_norm
        return Packed(
            payloads,
            dropped,
            norms=[] if order is None else [vector_norm(row, order) for row in rows],
            deltas=measured_deltas(rows, payloads, spans, dropped) if self.report_delta else [],
        )


@dataclass(frozen=True)
class Packed:
    """What `CompressionMod.pack` makes of the updates of k nodes.

    Attributes
    ----------
    payloads : list of tuple of Payload
        Of each node, one for each span.
    residuals : Tensor, shape (k, d), or None
        What compression dropped; None without error feedback.
    norms : list of float
        To report; empty where no norm is reported.
    deltas : list of float
        To report; empty where no delta is reported.
    """

    payloads: list[tuple[Payload, ...]]
    residuals: Tensor | None
    norms: list[float]
    deltas: list[float]
