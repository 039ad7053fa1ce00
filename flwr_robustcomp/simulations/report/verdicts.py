"""Who withstands what: the comparison of final values that the heat map colours and the summary tells."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cached_property

from flwr_robustcomp.simulations.report.estimate import Estimate
from flwr_robustcomp.simulations.report.section import Section, Setting
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK

__all__ = ["ACCURACY_MARGIN", "ERROR_SHARE", "Defence", "Verdicts", "judge"]

ACCURACY_MARGIN = 0.05
"""What an attack may cost: this much accuracy ..."""

ERROR_SHARE = 0.5
"""... or, where an error is measured, this share of the orders of magnitude gained since the first model.

Errors of convergent runs fall like c^t, so that a factor between two of them grows with the rounds and says little; half of the
orders of magnitude means that twice the rounds make up for the attack.
"""


@dataclass(frozen=True, order=True)
class Defence:
    """A row of the heat map."""

    compressor: str
    strategy: str


@dataclass(frozen=True)
class Verdicts:
    """Final values of every defence in every setting, and what they mean.

    Attributes
    ----------
    finals : dict
        Estimates by defence and setting; only of combinations that the comparison has.
    higher_is_better : bool
        Whether the metric is.
    reference : float
        The best mean without attack; NaN if there is none, and then there are no verdicts either.
    initial : float
        The mean of the metric before the first round.
    """

    finals: dict[tuple[Defence, Setting], Estimate]
    higher_is_better: bool
    reference: float
    initial: float

    @property
    def comparable(self) -> bool:
        """Whether there is a result without attack: without one nobody withstands anything, and nothing beats anybody."""
        return not math.isnan(self.reference)

    def clean(self, defence: Defence) -> Estimate | None:
        """Return a defence's own result without attack; None where it has none."""
        return self._clean.get(defence)

    @cached_property
    def _clean(self) -> dict[Defence, Estimate]:
        found: dict[Defence, Estimate] = {}
        for (defence, (_, attack)), final in self.finals.items():
            if attack == NO_ATTACK and final.values:
                found.setdefault(defence, final)
        return found

    def withstands(self, defence: Defence, setting: Setting) -> bool | None:
        """Whether a defence ends within the margin of the reference; None where that run or the reference is missing."""
        return self._within(defence, setting, self.reference)

    def beaten(self, defence: Defence, setting: Setting) -> bool:
        """Whether the attack breaks a defence.

        It does where the defence ends beyond the margin from its own result without attack, and no seed under attack does as
        well as any without. Neither beaten nor withstanding is a defence that is weak in any case, with too rough a compressor
        for example; of a defence without a result of its own nothing is known.
        """
        own = self.clean(defence)
        final = self.finals.get((defence, setting))
        if setting[1] == NO_ATTACK or own is None or final is None:
            return False
        if self._within(defence, setting, own.mean) is not False:
            return False
        if self.higher_is_better:
            return final.diverged or max(final.values) < min(own.values)
        return final.diverged or min(final.values) > max(own.values)

    def _within(self, defence: Defence, setting: Setting, reference: float) -> bool | None:
        final = self.finals.get((defence, setting))
        if final is None or not final.values or math.isnan(reference):
            return None
        if final.diverged:
            return False
        if self.higher_is_better:
            return final.mean >= reference - ACCURACY_MARGIN
        # An error is positive; where a record says otherwise there are no orders of magnitude to take a share of.
        orders = self.initial > 0 and reference > 0
        allowed = self.initial * math.pow(reference / self.initial, ERROR_SHARE) if orders else reference
        return final.mean <= max(reference, allowed)

    def ranked(self, setting: Setting) -> list[tuple[Defence, Estimate]]:
        """Return the defences with a value in a setting, best first; diverged ones last."""
        return list(self._ranked.get(setting, ()))

    @cached_property
    def _ranked(self) -> dict[Setting, list[tuple[Defence, Estimate]]]:
        found: dict[Setting, list[tuple[Defence, Estimate]]] = {}
        for (defence, setting), final in self.finals.items():
            if final.values:
                found.setdefault(setting, []).append((defence, final))
        return {setting: sorted(of, key=lambda item: self._cost(item[1])) for setting, of in found.items()}

    def goodness(self, defence: Defence, setting: Setting) -> float | None:
        """Return where a value lies between the worst (0) and the best (1) of all; errors by their logarithm."""
        final = self.finals.get((defence, setting))
        if final is None or not final.values:
            return None
        if final.diverged:
            return 0.0
        low, high = self._range
        return 1.0 if high == low else (high - self._cost(final)) / (high - low)

    @cached_property
    def _range(self) -> tuple[float, float]:
        costs = [self._cost(other) for other in self.finals.values() if other.values and not other.diverged]
        return min(costs), max(costs)

    def _cost(self, final: Estimate) -> float:
        """Return a number that is smaller for better values."""
        if final.diverged:
            return math.inf
        return -final.mean if self.higher_is_better else math.log(max(final.mean, 1e-300))


def judge(section: Section) -> Verdicts:
    """Return the verdicts over the finished runs of a comparison."""
    values: dict[tuple[Defence, Setting], list[float]] = {}
    for cell in section.cells:
        group = cell.group
        values.setdefault((Defence(group.compressor, group.strategy), (group.byzantine, group.attack)), [])
    for run in section.runs:
        group = run.cell.group
        key = Defence(group.compressor, group.strategy), (group.byzantine, group.attack)
        values[key].append(section.value(run.records[-1]))
    finals = {key: Estimate(section.metric, tuple(found)) for key, found in values.items()}
    higher = section.better == "higher"
    clean = [final.mean for (_, (_, attack)), final in finals.items() if attack == NO_ATTACK and not math.isnan(final.mean)]
    reference = (max if higher else min)(clean) if clean else math.nan
    first = [value for run in section.runs if math.isfinite(value := section.value(run.records[0]))]
    return Verdicts(finals, higher, reference, statistics.fmean(first) if first else math.nan)
