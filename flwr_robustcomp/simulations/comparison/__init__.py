"""What stands side by side: `robustcomp compare` and `robustcomp compressors`.

`compare` runs suites, `summary` makes rows and a sentence of them, `plots` draws curves. `compressor_table` measures every
compressor. Builds on `runs`, `records`, `scenario` and `problems`.
"""

from __future__ import annotations

__all__ = []
