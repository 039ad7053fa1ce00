"""Running scenarios.

`run` runs one on an engine. `sweep` runs many, some at a time, recorded and resumed. Builds on `app`, `engines`, `records`
and `scenario`.
"""

from __future__ import annotations

__all__ = []
