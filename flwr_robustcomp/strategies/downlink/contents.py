"""What goes into the messages of a round: the model in each of its forms, made once for all nodes that get the same."""

from __future__ import annotations

from flwr.app import ArrayRecord, Message, RecordDict

from flwr_robustcomp import wire
from flwr_robustcomp.downlink import Downlink, Form
from flwr_robustcomp.downlink.records import HEADER, Header, Held, array_bytes, narrow_dtypes, snapshot_record
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.strategies.downlink.ring import Ring
from flwr_robustcomp.strategies.downlink.sent import with_model
from flwr_robustcomp.strategies.downlink.shot import Shot

__all__ = ["Contents"]


_MOST_FOR_A_REPLICA = 1.5
"""Dense models that a dense replica may cost: half types are kept in single precision, which is twice as much."""


class Contents:
    """The model of a round, as it can travel.

    Parameters
    ----------
    downlink : Downlink, optional
        What may be sent.
    key : str
        Of the model's ArrayRecord in the messages.

    Attributes
    ----------
    ring : Ring or None
        The replica with its last changes; None where there is none.
    """

    ring: Ring | None
    _snapshot: ArrayRecord | None

    def __init__(self, downlink: Downlink | None, key: str) -> None:
        self.key = key
        self._downlink = downlink
        self._shot = Shot(downlink)
        self.forget()

    def forget(self) -> None:
        """Begin a replica that no node holds."""
        self.ring = Ring(self._downlink) if self._downlink is not None and self._downlink.rungs else None
        self._snapshot = None

    def take(self, arrays: ArrayRecord, *, moved: bool, step: float | None) -> bool:
        """Take the model of a round.

        Parameters
        ----------
        arrays : ArrayRecord
            The model, w.
        moved : bool
            Whether it is another than the last one: then the replica follows it.
        step : float or None
            What the lag of the replica is measured in.

        Returns
        -------
        bool
            Whether the replica begins anew, because the model has other arrays than it had.
        """
        self._shot.aim(arrays)
        self._snapshot = None
        if self.ring is None or not moved:
            return False
        if anew := not self.ring.fits(model := wire.shared_tensors(arrays)):
            LOG.warning("\t> the model has other arrays than it had: the replica begins anew")
            self.forget()
        self.ring.advance(model, step, self._shot.size or self._shot.dense)
        return anew

    def sizes(self, base: Held) -> dict[Form, int | None]:
        """Return the bytes of each form for a node that holds a version, as `cheapest` wants them."""
        chain = None if self.ring is None else self.ring.chain(base)
        changes = None if chain is None else array_bytes(chain)
        return {Form.REPLICA: changes, Form.QUANTISED: self._shot.size, Form.DENSE: self._shot.dense}

    def of(self, content: RecordDict, form: Form, base: Held | None) -> RecordDict:
        """Return a message's content with the model in a form.

        Parameters
        ----------
        content : RecordDict
            A strategy's, with the dense model.
        form : Form
            One of which `sizes` says that it can be made.
        base : Held or None
            The version that changes build on.

        Returns
        -------
        RecordDict
            A new one. The dense form is the replica, to be kept, where that is no larger than the model; else ``content``.
        """
        chain = None if self.ring is None or base is None else self.ring.chain(base)
        if self.ring is not None and base is not None and chain is not None:
            return with_model(content, Header.between(self.key, base, self.ring.held), chain)
        if form is Form.QUANTISED:
            return with_model(content, Header(form=form, key=self.key), self._shot.record)
        return self._dense(content)

    def _dense(self, content: RecordDict) -> RecordDict:
        if self.ring is None or not self.ring.held.version:
            return content
        self._snapshot = self._snapshot or snapshot_record(self.ring.replica)  # one for all nodes of a round
        if array_bytes(self._snapshot) > _MOST_FOR_A_REPLICA * self._shot.dense:
            return content
        held, dtypes = self.ring.held, narrow_dtypes(self.ring.replica)
        header = Header(form=Form.DENSE, key=self.key, version=held.version, digest=held.digest, dtypes=dtypes)
        return with_model(content, header, self._snapshot)

    def lose_snapshot(self) -> None:
        """Let go of the dense copy that a round may have made."""
        self._snapshot = None

    def model_of(self, message: Message) -> ArrayRecord | None:
        """Return the dense model that a node gets from a message of this round; None where the message has none.

        For whoever sees all that the server does, as the adversary of a simulation.
        """
        content = message.content
        if HEADER not in content:
            plain = content.get(self.key)
            return plain if isinstance(plain, ArrayRecord) else None
        if self.ring is None or Header.read(content[HEADER]).form is Form.QUANTISED:
            return self._shot.unpacked
        return self.ring.model
