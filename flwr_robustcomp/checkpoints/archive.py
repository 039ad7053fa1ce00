"""The members of a checkpoint's zip archive, read without trust in what it says of itself."""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO

__all__ = ["Members"]

_ENCRYPTED = 0x1


class Members:
    """The members of an archive, to be taken out once each.

    Parameters
    ----------
    file : binary file
        Open at its start.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If it is no zip archive, or one that this package does not write: with members that are deflated, encrypted, there
        twice, or together larger than the file. What is read is then never larger than what lies on the disk.
    """

    def __init__(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        self._archive = zipfile.ZipFile(file)
        self._left: set[str] = set()
        for member in self._archive.infolist():
            if member.filename in self._left:
                raise ValueError(f"member {member.filename!r} is there twice")
            if member.flag_bits & _ENCRYPTED:
                raise ValueError(f"member {member.filename!r} is encrypted")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise ValueError(f"member {member.filename!r} must be stored as it is, not compressed")
            self._left.add(member.filename)
            size -= member.file_size
        if size < 0:
            raise ValueError("its members must fit into it")

    def take(self, name: str) -> bytes:
        """Return a member; ValueError if it is missing or was taken before, for a file may refer to one a million times."""
        if name not in self._left:
            raise ValueError(f"member {name!r} must be there, and be referred to once")
        self._left.remove(name)
        return self._archive.read(name)

    def finish(self) -> None:
        """Raise ValueError if members are left that nothing refers to."""
        if self._left:
            raise ValueError(f"nothing refers to member {min(self._left)!r}")
