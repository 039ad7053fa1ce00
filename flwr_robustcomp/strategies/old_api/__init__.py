"""Strategies of Flower's old API over packed updates, and our strategies under the old API's server."""

from __future__ import annotations

__all__ = ()
