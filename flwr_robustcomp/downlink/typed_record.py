"""A ConfigRecord whose fields have types: written by one side, and read by the other, who believes nothing."""

from __future__ import annotations

from typing import Self

from flwr.app import ConfigRecord, RecordDict
from pydantic import BaseModel, ConfigDict, ValidationError

from flwr_robustcomp.component import one_line
from flwr_robustcomp.errors import ConfigurationError, WireError, printable

__all__ = ["TypedRecord"]


class TypedRecord(BaseModel):
    """Base of what travels or is kept as one ConfigRecord; immutable.

    Examples
    --------
    >>> from flwr_robustcomp.downlink.typed_record import TypedRecord
    >>> class Count(TypedRecord):
    ...     count: int
    >>> Count.read(Count(count=3).record())
    Count(count=3)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def record(self) -> ConfigRecord:
        """Return it as a record."""
        return ConfigRecord(self.model_dump(mode="json"))

    @classmethod
    def read(cls, record: object) -> Self:
        """Read a record.

        Raises
        ------
        WireError
            In one line, for anything else than `record` returns.
        """
        if not isinstance(record, ConfigRecord):
            raise WireError(f"a ConfigRecord is expected, got {type(record).__name__}")
        try:
            return cls.model_validate(dict(record))
        except ValidationError as error:
            raise WireError(printable(one_line(error), 300)) from error

    @classmethod
    def in_checkpoint(cls, state: RecordDict, name: str) -> Self | None:
        """Read a record of a checkpoint; None where there is none of that name.

        Raises
        ------
        ConfigurationError
            For a record that `record` did not return.
        """
        if name not in state:
            return None
        try:
            return cls.read(state[name])
        except WireError as error:
            raise ConfigurationError(f"{name!r} must be what a checkpoint leaves: {error}") from error
