"""`python -m benchmarks.fuzz_filters`: colluding vectors against every filter and chain, held to what `reach_of` promises.

Whatever at most ``trim`` Byzantine vectors are, the outcome may be at most `reach_of` times as long as the longest honest
vector. Each fault is printed with the command that repeats it, and the exit status is then 1. At the end comes the longest
outcome of each chain, beside its promise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.colluding_vectors import Matrix, draw, rows_of
from benchmarks.parts.filters import CHAINS
from benchmarks.parts.vectors import known
from flwr_robustcomp.filters import Filter, chain, reach_of

__all__ = ["least", "outcome", "play"]


def outcome(filters: Sequence[Filter], rows: Matrix) -> Matrix:
    """Return the aggregate, shape (d,), of vectors, shape (m, d); the first one, which is honest, is the server's root too."""
    return np.asarray(chain(filters, known(rows, rows[0])) @ rows)


def play(name: str, number: int, seed: int) -> tuple[float, float]:
    """Return how long the outcome of a case is in units of the largest honest norm, and what is promised."""
    rng = np.random.default_rng([seed, number])
    trim = int(rng.integers(1, 9))
    filters = CHAINS[name](trim)
    fewest = least(filters, trim)
    m = int(rng.integers(fewest, max(4 * trim + 12, fewest + 1)))
    crowd, colluders = draw(rng, trim)
    scale = 10.0 ** rng.uniform(-80, 80) if rng.random() < 0.3 else 1.0
    rows = rows_of(crowd, m - len(colluders), int(rng.integers(1, 60)), colluders, number, scale)
    return float(np.linalg.norm(outcome(filters, rows) / scale)), reach_of(filters, m)


def least(filters: Sequence[Filter], trim: int) -> int:
    """Return with how many vectors a chain always works, and promises something."""
    m = 2 * trim + 3
    while True:
        count, enough = m, True
        for one in filters:
            enough &= count >= one.least(trim)
            count = one.left(count, trim)
        if enough and np.isfinite(reach_of(filters, m)):
            return m
        m += 1


def main() -> None:
    """Play as many cases as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_filters", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="play this case only")
    options = parser.parse_args()
    names, started, faults = list(CHAINS), time.perf_counter(), 0
    longest: dict[str, tuple[float, float]] = dict.fromkeys(names, (0.0, np.inf))
    numbers = range(options.cases) if options.case is None else [options.case]
    for number in numbers:
        name = names[number % len(names)]
        length, promise = play(name, number, options.seed)
        longest[name] = max(longest[name], (length, promise))
        if not length <= promise * (1 + 1e-9):
            faults += 1
            print(f"{name}: {length:.4g} times the largest honest norm, promised {promise:.4g}")
            print(f"  python -m benchmarks.fuzz_filters --seed {options.seed} --case {number}", flush=True)
    for name, (length, promise) in longest.items():
        print(f"{name}: at most {length:.3g} times the largest honest norm, where {promise:.3g} was promised")
    rate = len(numbers) / (time.perf_counter() - started)
    print(f"{len(numbers):,} cases against {len(names)} chains, seed {options.seed}: {faults} faults, {rate:,.0f} a second")
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main()
