"""Who was rejected how often and why, and who is therefore left out of sampling."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, MetricRecord

from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import NO_GARBAGE, STRANGERS, Reason, Rejection

__all__ = ["Ledger", "Standing"]

_MOST_DOUBLINGS = 4


@dataclass
class Standing:
    """One node's entry.

    Attributes
    ----------
    rejections : Counter of Reason
        How often, by reason.
    in_a_row : int
        Rejections since the last accepted reply or quarantine.
    quarantines : int
        Quarantines since the last accepted reply.
    out_until : int
        The last round that the node is left out of; 0 if it is not.
    """

    rejections: Counter[Reason] = field(default_factory=Counter)
    in_a_row: int = 0
    quarantines: int = 0
    out_until: int = 0


class Ledger:
    """The rejections of a run, by node; at most one entry for each node that was ever asked, and one for all strangers.

    Parameters
    ----------
    policy : Policy
        When a node is left out, and for how long.

    Attributes
    ----------
    standings : dict of int to Standing
        By node id; nodes that were never rejected have none.

    Examples
    --------
    >>> from flwr_robustcomp import Policy
    >>> from flwr_robustcomp.strategies import Ledger, Reason, Rejection
    >>> ledger = Ledger(Policy())
    >>> ledger.enter(1, asked=[7, 8], accepted=[8], rejected=[Rejection(7, Reason.WIRE, "wrong length")])
    >>> ledger.total()
    'node 7: 1 wire'
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.standings: dict[int, Standing] = {}

    def enter(self, server_round: int, asked: Collection[int], accepted: Iterable[int], rejected: Sequence[Rejection]) -> None:
        """Enter a round: accepted nodes are in good standing again, rejected ones may be left out of the next rounds."""
        for node in accepted:
            if (standing := self.standings.get(node)) is not None:
                standing.in_a_row = standing.quarantines = standing.out_until = 0
        for one in rejected:
            node = one.node_id if one.node_id in asked else STRANGERS
            self.standings.setdefault(node, Standing()).rejections[one.reason] += 1
        after = self.policy.quarantine_after
        for node in {one.node_id for one in rejected if one.node_id in asked}:
            standing = self.standings[node]
            standing.in_a_row += 1
            if after is not None and standing.in_a_row >= after:
                rounds = self.policy.quarantine_rounds << min(standing.quarantines, _MOST_DOUBLINGS)
                standing.in_a_row, standing.out_until = 0, server_round + rounds
                standing.quarantines += 1
                LOG.warning("\t> node %d is left out of the next %d rounds: %d rejections in a row", node, rounds, after)

    def available(self, server_round: int, nodes: Iterable[int], needed: int) -> list[int]:
        """Return the nodes that may be sampled in a round.

        Parameters
        ----------
        server_round : int
            t.
        nodes : iterable of int
            Those that are connected.
        needed : int
            How many the strategy waits for. Where those in good standing are fewer, nodes that are left out come back, those
            with the fewest rounds to go first: a strategy never waits for a node that is there.

        Returns
        -------
        list of int
            In the order of ``nodes``.
        """
        connected = list(nodes)
        out = {n: s.out_until for n in connected if (s := self.standings.get(n)) is not None and s.out_until >= server_round}
        missing = needed - (len(connected) - len(out))
        if missing > 0:
            back = sorted(out, key=lambda node: (out[node], node))[:missing]
            if back:
                LOG.info("\t> back before their time, %d nodes are needed: %s", needed, ", ".join(map(str, back)))
            for node in back:
                del out[node]
        return [node for node in connected if node not in out]

    def garbage_senders(self, nodes: Iterable[int]) -> int:
        """Return how many of some nodes sent more replies that were at fault themselves than error replies."""
        sent = (self.standings[node].rejections for node in nodes if node in self.standings)
        return sum(2 * sum(reasons[one] for one in NO_GARBAGE) < reasons.total() for reasons in sent)

    def metrics(self) -> MetricRecord:
        """Return the totals of the run so far: the node ids, and for each reason that occurred a list with a count for each."""
        record = MetricRecord()
        nodes = sorted(self.standings)
        if nodes:
            record["robustcomp.rejections.nodes"] = nodes
            for reason in Reason:
                counts = [self.standings[node].rejections[reason] for node in nodes]
                if any(counts):
                    record[f"robustcomp.rejections.{reason}"] = counts
        return record

    def total(self) -> str:
        """Return the totals as one line, the most often rejected nodes first."""
        ranked = sorted(self.standings.items(), key=lambda item: (-item[1].rejections.total(), item[0]))
        return "; ".join(
            ("strangers: " if node == STRANGERS else f"node {node}: ")
            + ", ".join(f"{count} {reason}" for reason, count in sorted(standing.rejections.items()))
            for node, standing in ranked[:16]
        ) + (f"; and {len(ranked) - 16} more" if len(ranked) > 16 else "")

    def state(self) -> ConfigRecord:
        """Return the ledger as a checkpoint keeps it."""
        entries = {
            str(node): {**vars(one), "rejections": {str(reason): count for reason, count in one.rejections.items()}}
            for node, one in self.standings.items()
        }
        return ConfigRecord({"standings": json.dumps(entries)})

    def restore(self, state: ConfigRecord) -> None:
        """Go on from what `state` returned.

        Raises
        ------
        ConfigurationError
            If it is another value; the ledger is then as it was.
        """
        try:
            entries = json.loads(str(state["standings"]))
            self.standings = {_node(node): _standing(one) for node, one in entries.items()}
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            why = printable(str(error))
            raise ConfigurationError(f"the ledger must be as a checkpoint keeps it, got another: {why}") from error


def _node(key: str) -> int:
    node = _count(int(key))
    if str(node) != key:
        raise ValueError(f"{key[:20]!r} is not the number of a node")
    return node


def _standing(entry: dict[str, Any]) -> Standing:
    rejections = Counter({Reason(reason): _count(count) for reason, count in entry["rejections"].items()})
    return Standing(rejections, **{name: _count(count) for name, count in entry.items() if name != "rejections"})


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise ValueError(f"{str(value)[:20]!r} is not a count")
    return value
