"""What is not installed everywhere."""

from __future__ import annotations

import importlib.util

import pytest

HAS_BYZFL = importlib.util.find_spec("byzfl") is not None

needs_byzfl = pytest.mark.skipif(not HAS_BYZFL, reason="ByzFL is not installed (the extra byzfl)")
