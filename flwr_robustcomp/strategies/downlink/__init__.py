"""The server's part of the downlink: the replica with the changes that it keeps, and who gets what in a round."""

from __future__ import annotations

__all__ = []
