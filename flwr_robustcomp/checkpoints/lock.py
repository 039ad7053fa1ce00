"""One run at a time in a folder: a lock that the operating system holds, and gives back when the process dies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.files import open_own
from flwr_robustcomp.flower import LOG

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LOCK_FILE", "locked"]

LOCK_FILE = "checkpoint.lock"
"""Name of the file in a checkpoint's folder, while a run is at work there; holds the number of its process."""

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_FAR = 1 << 30
"""Windows locks bytes, and nobody else may read them: one that lies far behind the number of the process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this run until the block is left; made if it is missing.

    Raises
    ------
    ConfigurationError
        If another run is at work there, in this process or another; or if the folder cannot be written.

    Notes
    -----
    The lock belongs to the open file, not to the file's being there: one that a killed run left behind holds nobody up.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _take(folder)
    except OSError as error:
        raise ConfigurationError(f"checkpoint must be a writable folder, got {str(folder)!r}: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            # Before the lock goes, or it could be the next run's file. Windows does not let go of open files.
            with contextlib.suppress(OSError):
                (folder / LOCK_FILE).unlink()


def _take(folder: Path) -> BinaryIO:
    path = folder / LOCK_FILE
    while True:
        file = open_own(path)
        try:
            try:
                _lock(file)
            except OSError as error:
                if error.errno in _BUSY:
                    raise ConfigurationError(
                        f"checkpoint must be used by one run at a time, got {str(folder)!r} in use by {_owner(file)}"
                    ) from error
                LOG.warning("This file system has no locks (%s): see to it that no other run uses %s", error.strerror, folder)
                return file
            # A run that ended between our two steps has removed the file that we hold.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                    file.truncate(0)
                    file.write(str(os.getpid()).encode())
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


def _owner(file: BinaryIO) -> str:
    number = file.read(20)
    return f"process {int(number)}" if number.isdigit() else "another process"


def _lock(file: BinaryIO) -> None:
    """Lock an open file, or raise OSError at once."""
    if sys.platform == "win32":
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(0)
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
