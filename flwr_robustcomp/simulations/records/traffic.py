"""What a run's records say of bytes, both ways; older ones say nothing of what was sent to the nodes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.simulations.records.record import RoundRecord

__all__ = ["Volume", "megabytes", "volume"]


@dataclass(frozen=True)
class Volume:
    """Bytes of Array data of a whole run.

    Attributes
    ----------
    up : int
        In the replies.
    down : int or None
        In the messages to the nodes; None where the records do not say.
    dense : int or None
        Of a run with the dense model both ways: each node that is asked gets it, and answers with as much.

    Examples
    --------
    >>> from flwr_robustcomp.simulations.records.traffic import volume
    >>> told = volume([{"round": 0}, {"round": 1, "bytes": 30, "bytes_sent": 20, "bytes_dense": 400}])
    >>> told.total, told.dense / told.total
    (50, 16.0)
    >>> volume([{"round": 0}, {"round": 1, "bytes": 30}])
    Volume(up=30, down=None, dense=None)
    """

    up: int
    down: int | None
    dense: int | None

    @property
    def total(self) -> int:
        """Both ways, as far as it is known."""
        return self.up + (self.down or 0)


def volume(records: Sequence[RoundRecord]) -> Volume:
    """Return the bytes of a run's rounds."""
    down, dense = (_sum(records, name) for name in ("bytes_sent", "bytes_dense"))
    return Volume(sum(record.get("bytes", 0) for record in records), down, None if dense is None else 2 * dense)


def megabytes(records: Sequence[RoundRecord]) -> list[float]:
    """Return what was sent up to each round, both ways where that is known of the whole run, in MB."""
    both = volume(records).down is not None
    return list(itertools.accumulate((r.get("bytes", 0) + (r.get("bytes_sent", 0) if both else 0)) / 1e6 for r in records))


def _sum(records: Sequence[RoundRecord], name: str) -> int | None:
    """Return the sum of a field over the rounds; None where one has none."""
    values = [record.get(name) for record in records if record["round"] > 0]
    return None if None in values or not values else sum(value for value in values if value is not None)
