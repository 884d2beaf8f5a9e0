# SPDX-License-Identifier: Apache-2.0
"""What keeps a place from being written: a disk that is full, without inodes, or read-only; missing rights.

Promises: nothing that is left behind is changed. Leaves to the caller what follows from it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from . import files

LEAST_BYTES = 2**20  # free, without which a disk counts as full
_NO_TEMPORARY = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)  # a file system without O_TMPFILE


def trouble(place: Path, least_bytes: int = 1) -> str | None:
    """What the file system of a place lacks for a write, in words; None if it lacks nothing, or says nothing."""
    here = nearest(place)
    try:
        found = os.statvfs(here)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        return "the disk is read-only; make it writable, or look at the kernel's log: it may be failing"
    blocks, inodes = (found.f_bfree, found.f_ffree) if os.geteuid() == 0 else (found.f_bavail, found.f_favail)
    if found.f_blocks and (free := blocks * found.f_frsize) < least_bytes:
        wanted = f", expected at least {least_bytes:,}" if least_bytes > 1 else ""
        return f"the disk is full: {free:,} bytes free{wanted}; make room on it"
    if found.f_files and not inodes:  # some file systems have no fixed number of inodes, and say 0 of 0
        return "the disk has no inodes left for new files; delete files on it"
    return None


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    for place in (path, *path.absolute().parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass
        return place
    return Path("/")


def folder_problem(path: Path) -> str | None:
    """Why a folder cannot be made or written at `path`, in the words of the write that would fail; None if it can."""
    if problem := files.folder_problem(path):
        return problem
    if lack := trouble(path, LEAST_BYTES):
        return f"{path}: {lack}"
    place = nearest(path)
    try:
        _try_write(place, path)
    except OSError as e:
        return files.explain(e, _first_missing(path))
    return None


def _try_write(place: Path, path: Path) -> None:
    """Write a file that never gets a name; where that is not possible, make a folder and remove it. Raises OSError."""
    try:
        handle = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        if e.errno not in _NO_TEMPORARY:
            raise
        Path(tempfile.mkdtemp(dir=place, prefix=f".{path.name}.", suffix=files.TEMPORARY)).rmdir()
        return
    try:
        os.write(handle, bytes(4096))
    finally:
        os.close(handle)


def _first_missing(path: Path) -> Path:
    """The uppermost folder that would have to be made; the path itself if it is there."""
    missing = path.absolute()
    while not missing.parent.exists():
        missing = missing.parent
    return path if path.exists() else missing
