"""Files in folders that somebody else may have handed over: writing stays inside, and nothing that is opened blocks.

An archive or a repository can carry symbolic links. One in the place of a file that this package writes would have it write
wherever the link points to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["foreign_link", "open_own", "open_regular", "replace_file", "replacing"]

# Not every system has these: Windows has no pipes among files, and makes no difference between 0 and the first two.
_NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
_AS_IT_IS: int = getattr(os, "O_BINARY", 0)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file as a whole: beside, as ``NAME.part``, and put in place when the block is left.

    Yields
    ------
    binary file
        To write to. It is new: whatever had its name, a link for example, is removed first.

    Raises
    ------
    OSError
        If it cannot be written.

    Notes
    -----
    A link or a pipe at ``path`` is itself replaced; what a link points to is neither read nor written. Where the block raises,
    what stood at ``path`` stays, and nothing lies beside it.
    """
    beside = path.with_suffix(".part")
    beside.unlink(missing_ok=True)
    try:
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _AS_IT_IS, 0o666)
        with os.fdopen(number, "wb") as file:
            yield file
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Write bytes as the whole of a file; see `replacing`."""
    with replacing(path) as file:
        file.write(data)


def open_own(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file to change it in its place, unbuffered; made if it is missing.

    Parameters
    ----------
    path : Path
        A file, or nothing yet.
    append : bool
        Whether everything is written at its end; otherwise it can be read and written anywhere.

    Raises
    ------
    OSError
        If it cannot be opened, or is a link, a pipe or a device; ``strerror`` then says which.
    """
    with contextlib.suppress(FileNotFoundError):
        _check(path, path.lstat().st_mode)
    flags = (os.O_WRONLY | os.O_APPEND if append else os.O_RDWR) | os.O_CREAT
    # The flags and the second look hold off whoever puts a link or a pipe there in between.
    return _opened(path, flags | _NO_FOLLOW, "ab" if append else "r+b")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; OSError at once where a pipe or a device is in its place, which need never end."""
    return _opened(path, os.O_RDONLY, "rb", buffering=-1)


def foreign_link(target: Path, folder: Path) -> Path | None:
    """Return the first link on the way to a target that itself lies inside a folder; None where there is none.

    Links outside are the user's own, and so is one that is the folder.
    """
    inside = folder.resolve()
    for path in reversed([target, *target.parents]):
        if path.is_symlink() and path.parent.resolve().is_relative_to(inside):
            return path
    return None


def _opened(path: Path, flags: int, mode: str, buffering: int = 0) -> BinaryIO:
    number = os.open(path, flags | _NO_WAIT | _AS_IT_IS, 0o666)
    try:
        _check(path, os.fstat(number).st_mode)
        return cast(BinaryIO, os.fdopen(number, mode, buffering=buffering))
    except BaseException:
        os.close(number)
        raise


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise OSError(errno.ELOOP if stat.S_ISLNK(mode) else errno.EINVAL, f"{path.name} must be a file of its own, got {what}")
