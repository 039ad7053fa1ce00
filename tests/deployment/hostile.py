"""The quickstart's ClientApp on nodes that play a role; copied into the app's package, it stands before the app as it is.

The role comes from the SuperNode's ``--node-config``: ``honest``, ``poison`` or ``garbage``.
"""

import os

from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from quickstart.client_app import app as honest

from flwr_robustcomp.clients import Scaling

_scale = Scaling(factor=-20.0)


def poison(msg: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Send the opposite of the update, twenty times as large, as valid packed bits."""
    return _scale(msg, context, call_next) if context.node_config["role"] == "poison" else call_next(msg, context)


def garbage(msg: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Send random bytes of the right length."""
    reply = call_next(msg, context)
    if context.node_config["role"] == "garbage" and isinstance(record := reply.content.get("arrays"), ArrayRecord):
        for name, array in record.items():
            record[name] = Array(array.dtype, array.shape, array.stype, os.urandom(len(array.data)))
    return reply


app = ClientApp(mods=[garbage, poison])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Do what the quickstart does."""
    reply: Message = honest(msg, context)
    return reply
