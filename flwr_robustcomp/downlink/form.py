"""The three forms in which a model travels to a node, and which of them a node gets."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["Form", "cheapest"]


class Form(StrEnum):
    """How the model travels in one message.

    Examples
    --------
    >>> from flwr_robustcomp.downlink import Form
    >>> Form("replica") is Form.REPLICA, f"sent as {Form.DENSE}"
    (True, 'sent as dense')
    """

    REPLICA = "replica"
    """What turns the replica that the node holds into the server's: the packed changes that it missed."""

    QUANTISED = "quantised"
    """The model itself, a few bits a coordinate; the node keeps nothing of it."""

    DENSE = "dense"
    """The model itself, every bit of it."""


def cheapest(sizes: Mapping[Form, int | None]) -> Form:
    """Return the form of the fewest bytes, of those that a node can read.

    Parameters
    ----------
    sizes : mapping of Form to int or None
        Bytes of Array data; None for a form that the node cannot read, or that the server cannot make. The dense form can
        always be made, and counts as available where it is left out.

    Returns
    -------
    Form
        Of equal sizes the replica comes first, for what is sent later builds on it; then the dense form, which is exact.

    Examples
    --------
    >>> from flwr_robustcomp.downlink import Form, cheapest
    >>> cheapest({Form.REPLICA: 400, Form.QUANTISED: 1000, Form.DENSE: 4000})
    <Form.REPLICA: 'replica'>
    >>> cheapest({Form.REPLICA: None, Form.QUANTISED: 1000, Form.DENSE: 4000})
    <Form.QUANTISED: 'quantised'>
    >>> cheapest({Form.REPLICA: 5000, Form.QUANTISED: 4000, Form.DENSE: 4000})
    <Form.DENSE: 'dense'>
    """
    preferred = (Form.REPLICA, Form.DENSE, Form.QUANTISED)
    known = {form: size for form in preferred if (size := sizes.get(form)) is not None}
    return min(known, key=known.__getitem__, default=Form.DENSE)
