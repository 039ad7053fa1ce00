"""What is known of Flower's own strategies: their names, what they need, what they carry, and what they are handed."""

from __future__ import annotations

__all__ = ()
