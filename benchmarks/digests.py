"""A digest of every kind of number that the mathematics makes, as JSON: what `benchmarks.machines` holds against each other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.parts.compressors import TYPICAL
from benchmarks.parts.vectors import known
from flwr_robustcomp.compressors import Compressor, CrossPolytope, Drive, LowRank, Payload, vector_norm
from flwr_robustcomp.compressors.products import energies_of_runs
from flwr_robustcomp.compressors.rotation import rotate
from flwr_robustcomp.compressors.sums import magnitudes, squares
from flwr_robustcomp.filters import FILTERS, chain
from flwr_robustcomp.randomness import generator

SHAPE = (301, 67)
"""An array of 20,167 entries: five blocks of the rotation, and a rest in every chunk that is cut."""

COMPRESSORS: dict[str, Compressor] = TYPICAL | {
    "cross-polytope": CrossPolytope(50),
    "drive-plain": Drive(rotate=False),
    "low-rank-power": LowRank(2, method="power"),
}

NODES = 9


def updates(dtype: torch.dtype) -> list[Tensor]:
    """Return the same vectors on every machine: whole numbers, divided."""
    rng = generator(0, "digests")
    return [torch.from_numpy(rng.integers(-(2**20), 2**20, SHAPE) / 99991.0).to(dtype) for _ in range(NODES)]


def _compressed() -> Iterator[tuple[str, bytes]]:
    for name, compressor in COMPRESSORS.items():
        for dtype in (torch.float32, torch.float64):
            payloads = [compressor.compress(x, generator(i, "digests")) for i, x in enumerate(updates(dtype))]
            for what, of in _QUESTIONS.items():
                yield f"{what}: {name} {str(dtype).removeprefix('torch.')}", of(compressor, payloads)


def _accumulated(compressor: Compressor, payloads: list[Payload]) -> bytes:
    out = torch.zeros(payloads[0].size, dtype=torch.float64 if payloads[0].dtype == torch.float64 else torch.float32)
    compressor.accumulate(out, payloads, [1 / (3 + i) for i in range(NODES)])
    return out.numpy().tobytes()


_QUESTIONS: dict[str, Callable[[Compressor, list[Payload]], bytes]] = {
    "bytes on the wire": lambda one, payloads: repr([(p.scalars, p.body) for p in payloads]).encode(),
    "norms": lambda one, payloads: repr([one.norm(p, q) for p in payloads for q in (1, 2, np.inf)]).encode(),
    "decoded": lambda one, payloads: b"".join(one.decompress(p).numpy().tobytes() for p in payloads),
    "sums": _accumulated,
    "inner products": lambda one, payloads: one.inner_products(payloads).tobytes(),
}


def _plain() -> Iterator[tuple[str, bytes]]:
    rows = torch.stack([x.reshape(-1) for x in updates(torch.float32)]).numpy()
    for wide in (rows, rows.astype(np.float64)):
        yield f"arithmetic: magnitudes {wide.dtype}", magnitudes(wide).tobytes()
        yield f"arithmetic: squares {wide.dtype}", squares(wide).tobytes()
        yield f"arithmetic: rotation {wide.dtype}", rotate(wide[0], 1, 2).tobytes()
        norms = [vector_norm(torch.from_numpy(row), q) for row in wide for q in (1, 2, np.inf)]
        yield f"arithmetic: vector norms {wide.dtype}", repr(norms).encode()
    yield "arithmetic: energies of runs", energies_of_runs(torch.from_numpy(rows[0]), np.arange(0, 300, 7)).tobytes()


def _filtered() -> Iterator[tuple[str, bytes]]:
    rng = generator(1, "digests")
    exact = rng.integers(-30, 30, (21, 50)).astype(np.float64)  # of whole numbers, so that inner products have no rounding
    exact[:3] += 40
    vectors = known(exact, exact[0])
    for name, cls in FILTERS.items():
        weights = chain([cls(trim=3)], vectors)
        yield f"who is kept: {name}", (weights > 0).tobytes()
        yield f"weights: {name}", weights.tobytes()


def main() -> None:
    """Print the digests by name."""
    found = {
        name: hashlib.sha256(data).hexdigest()[:16] for part in (_plain(), _compressed(), _filtered()) for name, data in part
    }
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main()
