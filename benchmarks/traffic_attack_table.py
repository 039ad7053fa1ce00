"""The table of docs/traffic.md under attack: the dense downlink and the packed one side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.traffic_attacks import ATTACK_PARTITIONS, DENSE, NONE
from benchmarks.traffic_cells import OURS
from benchmarks.traffic_outcomes import Attacked
from flwr_robustcomp.simulations.attacks import ATTACKS

__all__ = ["attack_tables"]


@dataclass(frozen=True)
class _Pair:
    """The runs of one attack, with the dense downlink and with the packed one, seed by seed; accuracies in percent."""

    attack: str
    dense: tuple[float, ...]
    packed: tuple[float, ...]

    @property
    def gain(self) -> float:
        """What the attack gains from the packed downlink, in points."""
        return statistics.fmean(self.dense) - statistics.fmean(self.packed)

    @property
    def spread(self) -> float:
        """The difference between the best and the worst seed, of the downlink that has more of it."""
        return max(max(one) - min(one) for one in (self.dense, self.packed))

    @property
    def row(self) -> str:
        texts = (f"{statistics.fmean(one):.1f} ({min(one):.1f})" for one in (self.dense, self.packed))
        verdict = "**yes**" if round(self.gain, 1) > round(self.spread, 1) else "no"
        return f"| {self.attack} | {' | '.join(texts)} | {self.gain:+.1f} | {self.spread:.1f} | {verdict} |"


def attack_tables(attacked: Sequence[Attacked]) -> list[str]:
    """Return a table for each partition that has a run, and how many attacks gain more than their spread."""
    lines: list[str] = []
    for partition in ATTACK_PARTITIONS:
        found = {attack: _pair(partition, attack, attacked) for attack in (NONE, *ATTACKS)}
        pairs = [pair for pair in found.values() if pair is not None]
        if not pairs:
            continue
        seeds = sorted({one.seed for one in attacked if one.partition == partition})
        lines += ["", f"### Under attack: {partition}", "", f"Seeds {', '.join(map(str, seeds))}. {_sentence(pairs)}", ""]
        lines += [f"| attack | dense down (worst) | {OURS} (worst) | gain | seed spread | gains more than that |"]
        lines += ["|---|--:|--:|--:|--:|---|"]
        lines += [f"| {attack} | | | | | |" if pair is None else pair.row for attack, pair in found.items()]
    return lines


def _pair(partition: str, attack: str, attacked: Sequence[Attacked]) -> _Pair | None:
    """Return the runs of the seeds that both downlinks have."""
    own = {(one.down, one.seed): 100 * one.accuracy for one in attacked if (one.partition, one.attack) == (partition, attack)}
    seeds = sorted(seed for down, seed in own if down == DENSE and (OURS, seed) in own)
    if not seeds:
        return None
    return _Pair(attack, tuple(own[DENSE, seed] for seed in seeds), tuple(own[OURS, seed] for seed in seeds))


def _sentence(pairs: Sequence[_Pair]) -> str:
    attacks = [pair for pair in pairs if pair.attack != NONE]
    over = [pair.attack for pair in attacks if round(pair.gain, 1) > round(pair.spread, 1)]
    told = f"More than its seed spread gains: {', '.join(over)}." if over else "None gains more than its seed spread."
    return f"{len(attacks)} of {len(ATTACKS)} attacks have run. {told}"
