"""The model on its way down: which forms it can take, and the replica that server and nodes share.

`Downlink` says what a server may send. `Replica` is the arithmetic that both sides do alike. `records` is what travels, and
the one file here that knows Flower's records. Who holds what is `strategies.downlink`'s; what a node keeps is
`clients.incoming`'s.
"""

from __future__ import annotations

from flwr_robustcomp.downlink.config import DOWNLINKS, Downlink
from flwr_robustcomp.downlink.form import Form, cheapest

__all__ = ["DOWNLINKS", "Downlink", "Form", "cheapest"]
