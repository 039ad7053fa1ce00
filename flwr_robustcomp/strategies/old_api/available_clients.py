"""The clients of Flower's old API as sampling may see them: without those that are left out for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flwr_robustcomp.flower import ClientManager, ClientProxy, Criterion
from flwr_robustcomp.strategies.old_api.replies import node_of

__all__ = ["AvailableClients"]

_A_DAY = 86400  # seconds; what Flower's manager waits for by default

Available = Callable[[Iterable[int], int], Iterable[int]]
"""Node ids, and how many are needed, to those that may be sampled."""


class AvailableClients(ClientManager):
    """Any ClientManager with fewer clients; all else is the manager's own.

    Parameters
    ----------
    manager : ClientManager
        The manager.
    available : callable
        Node ids of its clients, and how many of them are needed, to those that may be sampled.
    """

    def __init__(self, manager: ClientManager, available: Available) -> None:
        self._manager = manager
        self._available = available

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the manager's own."""
        return getattr(self._manager, name)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes, as a Grid does: it is what the strategies of the new API sample from."""
        return [node_of(proxy) for proxy in list(self._manager.all().values())]

    def num_available(self) -> int:
        """Return how many clients may be sampled."""
        return len(self.all())

    def register(self, client: ClientProxy) -> bool:
        """Register a client."""
        return self._manager.register(client)

    def unregister(self, client: ClientProxy) -> None:
        """Unregister a client."""
        self._manager.unregister(client)

    def all(self) -> dict[str, ClientProxy]:
        """Return the clients that may be sampled."""
        clients = dict(self._manager.all())
        allowed = set(self._available([node_of(proxy) for proxy in clients.values()], 0))
        return {cid: proxy for cid, proxy in clients.items() if node_of(proxy) in allowed}

    def wait_for(self, num_clients: int, timeout: int = _A_DAY) -> bool:
        """Wait until so many clients are connected, those that are left out included."""
        return self._manager.wait_for(num_clients, timeout)

    def sample(
        self, num_clients: int, min_num_clients: int | None = None, criterion: Criterion | None = None
    ) -> list[ClientProxy]:
        """Sample as the manager does. Where too few are in good standing, clients that are left out come back."""
        self._manager.wait_for(num_clients if min_num_clients is None else min_num_clients, _A_DAY)
        eligible = [node_of(one) for one in list(self._manager.all().values()) if criterion is None or criterion.select(one)]
        among = _Among(frozenset(self._available(eligible, num_clients)))
        return self._manager.sample(num_clients, min_num_clients, among)


class _Among(Criterion):
    """Selects the clients of the nodes that may be sampled."""

    def __init__(self, nodes: frozenset[int]) -> None:
        self._nodes = nodes

    def select(self, client: ClientProxy) -> bool:
        """Whether a client may be sampled."""
        return node_of(client) in self._nodes
