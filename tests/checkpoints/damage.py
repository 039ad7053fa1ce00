"""Checkpoints that are not as they were written, with checksums that are."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

MANIFEST = "manifest.json"

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
"""Any JSON value, numbers of every size and NaN among them."""


def rewritten(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """Return an archive whose manifest is what a function returns for it, as JSON or as text."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            member: bytes | str = old.read(name)
            if name == MANIFEST:
                changed = change(json.loads(member))
                member = changed if isinstance(changed, str) else json.dumps(changed)
            new.writestr(name, member)
    return out.getvalue()


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_bytes(rewritten(path.read_bytes(), change))


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a JSON value; of long lists, the first and the last entries only."""
    if not isinstance(value, dict | list):
        return [here]
    inner: list[tuple[Any, Any]] = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [here, *(path for key, one in inner[:3] + inner[3:][-3:] for path in places(one, (*here, key)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any, *, drop: bool = False) -> Any:
    """Return a JSON value with another one in a place, or with that place left out."""
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    if drop and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(copy[path[0]], path[1:], by, drop=drop) if len(path) > 1 else by
    return copy
