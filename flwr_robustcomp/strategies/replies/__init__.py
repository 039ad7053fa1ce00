"""What comes back from nodes: screened, read, or rejected with a reason. It asks nothing of a strategy."""

from __future__ import annotations

__all__ = ()
