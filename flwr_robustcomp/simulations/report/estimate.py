"""Values over seeds: their mean, their spread, and as many digits as the spread allows."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

__all__ = ["Estimate", "decimals_of", "quantity"]


@dataclass(frozen=True)
class Estimate:
    """The final values of one combination over its seeds.

    Attributes
    ----------
    metric : str
        What they are values of; an accuracy is shown in percent.
    values : tuple of float
        One for each seed that has finished; not finite where a run diverged.
    """

    metric: str
    values: tuple[float, ...]

    @property
    def diverged(self) -> bool:
        """Whether some run ended without a finite value: no mean stands for those."""
        return not all(map(math.isfinite, self.values))

    @property
    def mean(self) -> float:
        """The mean; NaN without values or where a run diverged."""
        return statistics.fmean(self.values) if self.values and not self.diverged else math.nan

    @property
    def spread(self) -> float:
        """Half of the range over the seeds; 0 for a single one, whose spread is not known."""
        return (max(self.values) - min(self.values)) / 2 if self.values and not self.diverged else math.nan

    @property
    def short(self) -> str:
        """The mean, with the digits that the spread allows."""
        return self._text(with_spread=False)

    def __str__(self) -> str:
        """Return mean and spread."""
        return self._text(with_spread=True)

    def _text(self, *, with_spread: bool) -> str:
        if not self.values:
            return "missing"
        if self.diverged:
            return "diverged"
        if self.metric == "accuracy":
            return quantity(
                100 * self.mean, 100 * self.spread if self.spread else None, unit="\u202f%", with_spread=with_spread
            )
        return quantity(self.mean, self.spread or None, with_spread=with_spread)


def decimals_of(value: float, spread: float | None) -> int:
    """Return the decimals to show: those of the spread's leading digit, its first two if it begins with 1.

    Without a spread, two significant digits of the value.
    """
    if spread:
        leading, place = f"{spread:.1e}".split("e")
        return (1 if float(leading) < 2 else 0) - int(place)
    return 1 - math.floor(math.log10(abs(value))) if value else 0


def quantity(value: float, spread: float | None, *, unit: str = "", with_spread: bool = True) -> str:
    """Return a value as text, rounded where its spread begins.

    Values outside of 0.001 to 100,000 are written with an exponent that value and spread share.
    """
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if not unit and not -3 <= exponent < 5:
        scale = 10.0**exponent
        inner = quantity(value / scale, spread / scale if spread else None, with_spread=with_spread)
        return f"({inner})e{exponent:+03d}" if "±" in inner else f"{inner}e{exponent:+03d}"
    decimals = decimals_of(value, spread)
    text = f"{round(value, decimals):,.{max(0, decimals)}f}"
    if spread and with_spread:
        text += f" ± {round(spread, decimals):,.{max(0, decimals)}f}"
    return text + unit
