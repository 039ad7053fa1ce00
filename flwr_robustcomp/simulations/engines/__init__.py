"""Where the nodes of a run live: Flower Grids of our own.

`in_process_grid` keeps all nodes in this process; `ray_grid` shares them among Ray actors, started and left by `ray_session`.
Both keep nodes in `shard`s, which ask `batch` for many replies in one call. The curve is the same on both, and under `flwr
run`. Builds on `scenario`, `attacks` and `problems`.
"""

from __future__ import annotations

__all__ = []
