"""A chain of filters on the updates of a round, for as many liars as they can work against with what came."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from flwr_robustcomp.component import resolve
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import FILTERS, Filter, Matrix, OverTime, Vectors, chain_rows
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.filters.chains import chain_as_left
from flwr_robustcomp.filters.specimen import specimen
from flwr_robustcomp.strategies.round import Round

__all__ = ["filtered", "named_filters"]


def filtered(filters: Sequence[Filter], vectors: Vectors, round_: Round, stopped: int) -> tuple[Matrix, str | None]:
    """Return what filters leave, shape (k, m), and for whom of the expected liars they no longer work, in words.

    Where they have too few, faulty replies spend the trim. Where that is not enough, shares fit what is left, as long as one of
    the filters still works against somebody. A count is a number of nodes that somebody fears, and more replies are asked for
    it. But where enough came, and an earlier filter has left too few of them, it fits as well: otherwise whoever can make that
    filter drop many could hold up the run.

    Parameters
    ----------
    filters : sequence of Filter
        With the trims of the configuration.
    vectors : Vectors
        m of them.
    round_ : Round
        All that was accepted.
    stopped : int
        How many of it a screen has dropped already.

    Raises
    ------
    ConfigurationError
        If the filters need more than came.
    """
    count = len(round_)

    def spent(*, short: bool) -> list[Filter]:
        trims = [trim_of(round_.left_to_trim(one.trim, short=short), count) for one in filters]
        return [replace(one, trim=max(0, trim - stopped)) for one, trim in zip(filters, trims, strict=True)]

    for short in (False, True):
        with contextlib.suppress(ConfigurationError):
            return chain_rows(spent(short=short), vectors), None
    wanted = spent(short=True)
    enough = _work_on(wanted, len(vectors))
    rows, fit = chain_as_left(wanted, vectors, [enough or isinstance(one.trim, float) for one in filters])
    if not any(one.trim for one in fit):
        return chain_rows(wanted, vectors), None  # raises, with what the filters need
    told = [f"{one.name} for {one.trim} of {full.trim}" for one, full in zip(fit, wanted, strict=True) if one != full]
    return rows, ", ".join(told)


def _work_on(filters: Sequence[Filter], m: int) -> bool:
    """Whether filters can work on m updates of which none stands out."""
    with contextlib.suppress(ConfigurationError):
        chain_rows(filters, specimen(m))
        return True
    return False


def named_filters(filters: str | Filter | Sequence[Filter | str], trim: int | float) -> tuple[Filter, ...]:
    """Return the filters that a configuration names, joined by ``+`` or one by one; those without a trim get this one."""
    return tuple(_filter(one, trim) for one in _named(filters))


def _named(filters: str | Filter | Sequence[Filter | str]) -> Sequence[Filter | str]:
    if isinstance(filters, str):
        return [name.strip() for name in filters.split("+")] if filters else []
    return [filters] if isinstance(filters, Filter) else filters


def _filter(one: Filter | str, trim: int | float) -> Filter:
    if isinstance(one, Filter):
        return one if one.trim else replace(one, trim=trim)
    require(isinstance(one, str), "filters", one, "Filters, or names of them")
    over_time, colon, name = one.partition(":")
    if colon and over_time == OverTime.name:
        return OverTime(trim, _filter(name, 0))
    return resolve("filters", FILTERS, one, base=Filter)(trim)
