"""The quickstart's ClientApp on a node that may lie about its replica; copied into the app's package, as `hostile`.

What it trains is honest. On a node whose ``--node-config`` says ``role="liar"`` it throws the replica away that it says it
holds, and from the tenth version on names one that never was.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from quickstart.client_app import app as honest

from flwr_robustcomp.clients.incoming import ARRAYS
from flwr_robustcomp.downlink.records import HELD, Held


def lie(msg: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Change what the reply says of the replica."""
    reply = call_next(msg, context)
    if context.node_config["role"] != "liar" or HELD not in reply.content:
        return reply
    truth = Held.read(reply.content[HELD])
    if truth.version >= 10:
        reply.content[HELD] = Held(version=999, digest=truth.digest).record()
    else:
        for name in (HELD, ARRAYS):
            context.state.pop(name, None)
    return reply


app = ClientApp(mods=[lie])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Do what the quickstart does."""
    reply: Message = honest(msg, context)
    return reply


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Do what the quickstart does."""
    reply: Message = honest(msg, context)
    return reply
