"""What a server knows of its nodes over the rounds: whom it asks, who sent garbage, whether a run can still succeed."""

from __future__ import annotations

__all__ = ()
