# SPDX-License-Identifier: Apache-2.0
"""Files that survive a power cut.

A file is written whole beside its place, fsynced, renamed over it, and its folder fsynced: a reader sees the old or the
new, and what was acknowledged after the write is there after a power cut.

A write that is killed leaves its temporary file; `remove_leftovers` tells such a file from one that is being written
by a lock that the kernel releases with the process.

What root makes belongs to the owner of the folder: an operator's command (`join`, `model add`) works on the state of a
service that runs as a user of its own, and the service must be able to read what the command leaves there.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pwd
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp"


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` durably. Raises StorageError when the disk is full or failing."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    except OSError as e:
        raise StorageError(_unwritable(e, path)) from e
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            hand_over(Path(temporary))
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except OSError as e:
        with suppress(OSError):
            Path(temporary).unlink()
        raise StorageError(_unwritable(e, path)) from e


def write_with_folder(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Like `write`, and make the folder if it is missing: the disk may not have taken that before."""
    try:
        make_folder(path.parent)
    except OSError as e:
        raise StorageError(f"{path.parent}: cannot be made: {e.strerror}") from e
    write(path, data, mode)


def _unwritable(error: OSError, path: Path) -> str:
    """Why a file cannot be written; as which user, where rights are missing."""
    return (
        explain(error, path) if isinstance(error, PermissionError) else f"{path}: cannot be written: {error.strerror}"
    )


def remove_leftovers(folder: Path) -> int:
    """Delete temporary files of writes that were killed, in a folder and below it; how many."""
    removed = 0
    for path in folder.rglob(f".*{TEMPORARY}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is being written
            path.unlink()
            removed += 1
    return removed


def is_disk_failure(error: OSError) -> bool:
    """Whether the disk is full, read-only or failing: nothing that the operator has mistyped, and it may heal."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV)


def try_folder(path: Path, of_another: bool = True) -> None:
    """Like `make_folder`, but only log that the disk takes nothing: who writes there finds out. Raises OSError.

    of_another: the same where this user has no right to make it.
    """
    try:
        make_folder(path)
    except OSError as e:
        if not is_disk_failure(e) and not (of_another and isinstance(e, PermissionError)):
            raise
        logger.error("%s: cannot be made: %s", path, e.strerror)


def make_folder(path: Path) -> None:
    """A folder of mode 0700, and those above it that are missing. OSError when it cannot be made."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        hand_over(path)


def folder_problem(path: Path) -> str | None:
    """Why a folder cannot be made at `path`, or this user may not write there; None if neither is in the way."""
    for place in (path, *path.absolute().parents):
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            return explain(e, place)
        if not place.is_dir():
            return explain(NotADirectoryError(), place)
        if os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_RDONLY:
            return None
        return explain(PermissionError(), place)
    return None


def explain(error: OSError, path: Path, ours: Path | None = None) -> str:
    """What went wrong with a path, and what the operator can do about it.

    ours: what of it a program needs for itself, if that is so: a service cannot be run as another user.
    """
    if isinstance(error, PermissionError):
        me = _user(os.geteuid())
        owner = _owner(path)
        other = f"as {owner} (sudo -u {owner} ...)" if owner not in (me, "root") else "with sudo"
        given = f", or, if {me} is the user of the service, {_give(ours, owner, me)}" if ours else ""
        return f"{path}: no permission as user {me}; run this {other}{given}"
    if (target := _dangling(path)) is not None:
        return f"{path}: a link to {target}, which does not exist; make that, or remove the link"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{path}: a file, or below a file; expected a folder"
    return f"{path}: {error.strerror or error}"


def _dangling(path: Path) -> Path | None:
    """Where a link leads to that leads to nothing; None: it is none, or nobody can tell."""
    with suppress(OSError):
        if path.is_symlink() and not path.exists():
            return path.readlink()
    return None


def explain_denied(path: Path) -> str:
    """Which right this user lacks for a file of the program's own, and the command that gives it or its folder back."""
    ours = path if os.access(path.parent, os.W_OK | os.X_OK) else path.parent
    return explain(PermissionError(), path, ours=ours)


def _give(path: Path, owner: str, me: str) -> str:
    """The command that gives a user what it needs: a folder with all in it, or a file with those beside it."""
    is_folder = False
    with suppress(OSError):  # of a folder above it
        is_folder = path.is_dir()
    command = "chmod {}u+rwX" if owner == me else f"chown {{}}{me}"
    return f"sudo {command.format('-R ')} {path}" if is_folder else f"sudo {command.format('')} {path}*"


def _owner(path: Path) -> str:
    """The user that the path, or the nearest folder above it that can be looked at, belongs to."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return _user(place.stat().st_uid)
    return "root"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user without a name
        return str(number)


def hand_over(path: Path) -> None:
    """Give what root made to the owner of its folder."""
    if os.geteuid() != 0:
        return
    owner, now = path.parent.stat(), path.lstat()
    if (owner.st_uid, owner.st_gid) != (now.st_uid, now.st_gid):
        with suppress(PermissionError):  # root of a container without CAP_CHOWN, or of another machine over NFS
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def one_name(path: Path) -> str:
    """A file's name, the same however the path to it is written."""
    return str(path.absolute().parent.resolve() / path.name)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
