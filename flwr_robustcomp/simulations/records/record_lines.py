"""What a line of each file of the record holds, so that nothing behind the reader meets a value of another type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flwr_robustcomp.errors import printable

__all__ = ["BY_ROUND", "CellLine", "CostLine", "ProblemFacts", "RoundLine", "StartLine"]

_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Node = Annotated[str, Field(pattern=r"\A[0-9]{1,20}\z")]
_Seconds = Annotated[float, Field(ge=0, le=1e12)]


class _Line(BaseModel):
    """A line; a text is no number here, and true is none either. A newer version may write more fields."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @classmethod
    def check(cls, record: dict[str, Any]) -> None:
        """Raise ValueError, with the first reason, unless a record is such a line."""
        try:
            cls.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where, message = first["loc"][0], first["msg"].removeprefix("Value error, ")
            got = "" if first["type"] == "missing" else f", got {printable(repr(first['input']), 60)}"
            raise ValueError(f"{where}: {message[0].lower()}{message[1:]}{got}") from error


class _SpreadFacts(_Line):
    """How unlike the updates of a round were."""

    ratio: _Number | None = None
    direction_ratio: _Number | None = None
    cosines: Annotated[list[_Number | None], Field(min_length=3, max_length=3)] | None = None


class RoundLine(_Line):
    """A round of a run; whatever else it holds are the problem's metrics: numbers and lists of them, as Flower takes them."""

    __pydantic_extra__: dict[str, _Number | list[_Number | None] | None] = Field(init=False)

    cell: str
    round: _Count
    kept: _Count = 0
    trimmed: list[_Count] = []
    rejected: dict[_Node, str] = {}
    threshold: _Number | None = None
    bytes: _Count = 0
    bytes_sent: _Count | None = None
    bytes_dense: _Count | None = None
    forms: dict[Annotated[str, Field(max_length=20)], _Count] = {}
    resent: list[_Count] = []
    skipped: str | None = None
    delta: _Number | None = None
    alarm: str | None = None
    spread: _SpreadFacts | None = None
    minority_warning: str | None = None
    norms: dict[str, Annotated[list[_Number | None], Field(min_length=3, max_length=3)]] = {}


BY_ROUND = frozenset(RoundLine.model_fields)
"""The fields of a round that are no metrics."""


class ProblemFacts(_Line):
    """What a report needs to know about a problem, noted by the run that could build it.

    Attributes
    ----------
    metric, better : str
        The problem's.
    dimension : int, optional
        d, the floating-point coordinates of its model.
    """

    metric: Annotated[str, Field(min_length=1, max_length=100)]
    better: Literal["lower", "higher"]
    dimension: Annotated[int, Field(ge=1, le=2**53)] | None = None

    @field_validator("metric")
    @classmethod
    def _is_one(cls, metric: str) -> str:
        if metric in BY_ROUND:
            raise ValueError("must not be the name of another field of a round")
        return metric


class CellLine(_Line):
    """A run's key and its scenario, with what the run knew that recorded it; older records lack that."""

    cell: str
    scenario: dict[str, Any]
    problem: ProblemFacts | None = None
    guaranteed_delta: Annotated[float, Field(ge=0, le=1)] | None = None


class CostLine(_Line):
    """What a run cost."""

    cell: str
    seconds: _Seconds | None = None
    seconds_per_round: _Seconds | None = None
    peak_memory: Annotated[float, Field(ge=0, le=1e18)] | None = None


class StartLine(_Line):
    """A command that wrote to the folder."""

    command: str
    started: str
    versions: dict[str, str]
    machine: dict[str, str | int | float | None]
    suites: dict[str, dict[str, Any]] = {}
