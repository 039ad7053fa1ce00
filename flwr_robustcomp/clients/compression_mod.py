"""The client mod that packs what a training function replies with."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from flwr_robustcomp import wire
from flwr_robustcomp.clients.error_feedback import compress_with_feedback, load_residual, store_residual
from flwr_robustcomp.clients.node import (
    array_records,
    is_training,
    model_keys,
    partition_of,
    report_delta,
    round_of,
    seed_of,
)
from flwr_robustcomp.clients.old_api import call_next_or_explain, is_old, through_old_api
from flwr_robustcomp.clients.privacy import check_mod_order, within_clip
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, missing_entries
from flwr_robustcomp.compressors import NORM_ORDERS, Compressor, keeping_zeros, vector_norm
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity, check_granularity, shared_layout
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.spans import compress_spans, measured_deltas

__all__ = ["CompressionMod"]


class CompressionMod:
    """Compress the update in a training reply; works with anybody's ``@app.train()`` unchanged.

    Parameters
    ----------
    compressor : Compressor
        Q. The server's strategy is configured with an equal one.
    error_feedback : bool
        Keep what compression drops in `Context.state` and add it to the next update (Algorithm 3).
    granularity : {"model", "array"}
        Compress all floating arrays as one vector, or each on its own.
    reply : {"weights", "update"}
        Whether the training function replies with new weights w_local, of which x = w_t - w_local is formed, or with x itself.
    report_norm : {1, 2, inf}, optional
        Also send ||p||_q of the vector before compression, which Algorithm 1 sorts by.
    uncompressed : sequence of str
        Shell patterns of floating arrays that travel as they are. Integer and boolean arrays always do.
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
        compressor: Compressor,
        *,
        error_feedback: bool = False,
        granularity: Granularity = "model",
        reply: Reply = "weights",
        report_norm: float | None = None,
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        seed: int | None = None,
        report_delta: bool = False,
        key: str | None = None,
        partial: bool = False,
    ) -> None:
        require(isinstance(compressor, Compressor), "compressor", compressor, "a Compressor instance")
        check_granularity(granularity, compressor)
        check_reply(reply)
        require(report_norm is None or report_norm in NORM_ORDERS, "report_norm", report_norm, "one of 1, 2, inf, None")
        self.compressor = compressor
        self.error_feedback = error_feedback
        self.granularity = granularity
        self.reply = reply
        self.report_norm = report_norm
        self.uncompressed = tuple(uncompressed)
        self.seed = seed
        self.report_delta = report_delta
        self.key = key
        whole = keeping_zeros(compressor)
        still = whole.keeps_zeros or whole.wants_matrices
        require(not partial or still, "partial", partial, f"False with {compressor!r}, which moves what a reply leaves out")
        self.partial = partial

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train, form x, add the residual, compress, keep what was dropped, reply with packed Arrays."""
        if is_old(message):
            return through_old_api(self, message, context, call_next)
        if not is_training(message):
            return call_next(message, context)
        check_mod_order()
        received = array_records(message.content)
        if not received or (self.key is not None and self.key not in received):
            model = "the model" if self.key is None else f"the model under {self.key!r}"
            raise ConfigurationError(f"the server's message must hold {model} as an ArrayRecord, got {sorted(message.content)}")
        server_round = round_of(message)
        answer = call_next_or_explain(call_next, message, context)
        if answer.has_error():
            return answer

        replied = array_records(answer.content)
        theirs, key = model_keys(received, replied, self.key)
        arrays = replied[key]
        tensors = wire.shared_tensors(received[theirs])
        layout = shared_layout(tensors, self.uncompressed)
        p, aside = dense_update(layout, tensors, arrays, self.reply, partial=self.partial)
        missing = missing_entries(layout, arrays) if self.partial else None
        spans = layout.spans(self.granularity)
        compressor = keeping_zeros(self.compressor, layout.shapes).for_round(server_round)
        rng = None
        if compressor.randomized:
            seed, partition = seed_of(context, self.seed), partition_of(context)
            rng = generator(seed, "compress", round_=server_round, partition=partition)
        dropped = held = residual = None
        if self.error_feedback:
            residual = load_residual(context.state, layout.dim, p.dtype)
            if residual is not None and missing is not None:  # what these arrays lack waits until they are sent again
                held = residual * missing
                residual = residual - held
        p, residual = within_clip(message, tensors, p, aside, residual, spans=spans, compressor=compressor, rng=rng)
        if self.error_feedback:
            p, payloads, dropped = compress_with_feedback(p, residual, spans, compressor, rng)
        else:
            payloads = compress_spans(p, spans, compressor, rng)

        packed = ArrayRecord()
        for span, payload in zip(spans, payloads, strict=True):
            packed[span.name or wire.MODEL_ARRAY] = wire.pack(payload, compressor)
        for name, tensor in aside.items():
            packed[name] = wire.to_array(tensor)
        answer.content[key] = packed
        if self.report_norm is not None:
            answer.content[wire.NORM_RECORD] = ConfigRecord({wire.norm_key(self.report_norm): vector_norm(p, self.report_norm)})
        if self.report_delta:
            known = None if dropped is None else dropped[None]
            report_delta(answer.content, measured_deltas(p[None], [payloads], spans, compressor, known)[0])
        if self.error_feedback and dropped is not None:
            # Last: had anything above raised, nothing would have been sent, and e must stay as it was (docs/adr/0004).
            store_residual(context.state, dropped if held is None else dropped + held)
        return answer
