# SPDX-License-Identifier: Apache-2.0
"""Set damaged files aside, so that a new one can be begun and a person can look at the old one.

Promises: a file is renamed to ``NAME.damaged-TIME``, with its write-ahead log if it has one, never deleted while it is
one of the newest; what was lost is written beside it (``.damaged-TIME.txt``). `reports` finds these again after a
restart: it is a problem until a person has moved or deleted the file. Leaves to the caller to decide that a file is
damaged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError
from . import files

logger = logging.getLogger(__name__)

MARK = ".damaged-"
MOST = 3  # files set aside from one path; older ones are deleted, so that a bad disk does not fill itself
MAX_REPORT = 2000  # characters
DAMAGED, LOST = "was damaged", "was lost"  # what became of a file
LOG = "-wal"  # SQLite finds the log of a file by its name, also of one that was set aside


def set_aside(path: Path) -> Path:
    """Rename a damaged file, and its write-ahead log; its new name. Raises StorageError."""
    aside = _free(path)
    try:
        path.replace(aside)
        with suppress(FileNotFoundError):
            path.with_name(path.name + LOG).replace(aside.with_name(aside.name + LOG))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)  # an index of the log, made anew when it is read
        files.sync_folder(path.parent)
    except OSError as e:
        raise StorageError(f"{path}: is damaged and cannot be set aside: {e.strerror}") from e
    _delete_old(path)
    return aside


def report(path: Path, aside: Path, text: str, what: str = DAMAGED) -> None:
    """Log what became of a damaged file, and write it beside the one set aside, for as long as that stays."""
    words = _one_line(f"{path.name} {what}: {text}")
    logger.error("%s: it is set aside as %s", words, aside)
    with suppress(StorageError):
        files.write(aside.with_name(aside.name + ".txt"), words.encode()[:MAX_REPORT])


def report_gone(path: Path, text: str) -> None:
    """Report a file that is gone or empty; an empty one that is set aside stands for it. Raises StorageError."""
    try:
        path.touch(0o600)
    except OSError as e:
        raise StorageError(f"{path} {LOST}, and cannot be made: {e.strerror}") from e
    report(path, set_aside(path), text, LOST)


def before(path: Path) -> str | None:
    """Name of the first file that was set aside from this path and is still there."""
    return next((p.name for p in _set_aside(path)), None)


def forget_removed(folder: Path) -> None:
    """Delete what lies beside files that were set aside and that a person has moved or deleted since."""
    for path in folder.rglob(f"*{MARK}*"):
        number = path.name.rpartition(MARK)[2].partition("-")[0].partition(".")[0]
        main = path.name.rpartition(MARK)[0] + MARK + number
        if number.isdigit() and path.name != main and not path.with_name(main).exists():
            with suppress(OSError):
                path.unlink()


def databases(folder: Path) -> frozenset[Path]:
    """The databases below a folder that were set aside and are still there, one for each that was damaged or lost."""
    with suppress(OSError):
        return frozenset(p for p in folder.rglob(f"*.sqlite{MARK}*") if _is_main(p))
    return frozenset()


def reports(folder: Path) -> list[str]:
    """One line for each file below a folder that was set aside and is still there."""
    found = sorted(p for p in folder.rglob(f"*{MARK}*") if _is_main(p))
    return [f"{_words(p)}; look at {p}, then move or delete it" for p in found]


def _words(aside: Path) -> str:
    try:
        with aside.with_name(aside.name + ".txt").open(encoding="utf-8", errors="replace") as file:
            return _one_line(file.read(MAX_REPORT))
    except OSError:
        return f"{aside.name.partition(MARK)[0]} was damaged and is set aside"


def _one_line(text: str) -> str:
    """SQLite's words on a damaged page have several lines; a PROBLEM is one."""
    return " ".join(text.split())


def _free(path: Path) -> Path:
    """A name above all that were used, also when the clock was set back."""
    used = (int(old.name.rpartition(MARK)[2]) + 1 for old in _set_aside(path))
    return path.with_name(f"{path.name}{MARK}{max((int(time.time()), *used))}")


def _set_aside(path: Path) -> Iterator[Path]:
    """What was set aside from a path, the oldest first."""
    found = (p for p in path.parent.glob(f"{path.name}{MARK}*") if _is_main(p))
    yield from sorted(found, key=lambda p: (len(p.name), p.name))


def _is_main(path: Path) -> bool:
    """Whether the name is that of a file set aside itself, not of what lies beside it."""
    return path.name.rpartition(MARK)[2].isdigit()


def _delete_old(path: Path) -> None:
    for old in list(_set_aside(path))[:-MOST]:
        for end in ("", LOG, "-shm", ".txt"):
            with suppress(OSError):
                old.with_name(old.name + end).unlink(missing_ok=True)
