# SPDX-License-Identifier: Apache-2.0
"""Open a file to read it, and nothing else: a device never ends, a named pipe waits for a writer.

Promises: no call blocks, and a read has a bound. Errors are OSError, whose text says what was found and expected.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_plain(path: Path) -> BinaryIO:
    """The file, unbuffered. Raises OSError, also for what is no file."""
    require_plain(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_others(path, os.fstat(handle))  # it may have been replaced meanwhile
        return cast(BinaryIO, os.fdopen(handle, "rb", buffering=0))
    except BaseException:
        os.close(handle)
        raise


def require_plain(path: Path) -> None:
    """Raise OSError for what is no file, or not there."""
    _refuse_others(path, path.stat())


def read_plain(path: Path, most: int) -> bytes:
    """All bytes of a file, at most so many. Raises OSError."""
    with open_plain(path) as file:
        parts, count = [], 0
        while part := file.read(most + 1 - count):
            parts.append(part)
            count += len(part)
            if count > most:
                raise OSError(errno.EFBIG, f"has more than {most:,} bytes, the most that it may have", str(path))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(code, f"{kind}; expected a file", str(path))
