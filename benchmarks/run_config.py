"""Run configs as TOML, the way `flwr run` reads them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["ConfigValue", "run_config_toml", "toml_value"]

ConfigValue = str | int | float | bool

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def run_config_toml(config: Mapping[str, ConfigValue]) -> str:
    """Return a TOML document of a flat run config; nested keys are joined by dots."""
    for key in config:
        if not _BARE_KEY.fullmatch(key):
            raise ValueError(f"not a run-config key: {key!r}")
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in config.items())


def toml_value(value: ConfigValue) -> str:
    """Return one value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(float(value)) if math.isfinite(value) else str(float(value))
        case str():
            # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            raise TypeError(f"run-config values are str, int, float or bool, not {type(value).__name__}")
