"""What a run writes, and how it is read back; a folder may come from somebody else, so that reading one builds nothing.

`record` writes and reads lines of JSON, `record_lines` says what each file's lines hold, `curves` reads rounds by run,
`cell_index` says which scenario a run has. `provenance` and `cost` are kept apart from the record, which is the same on every
machine. `tensorboard` shows the record while it is written. Builds on `scenario`.
"""

from __future__ import annotations

__all__ = []
