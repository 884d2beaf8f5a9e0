# SPDX-License-Identifier: Apache-2.0
"""Bound the memory of this process while a file of unknown origin is tried."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import EncodeError

from ...errors import ModelError

PROBE_BYTES = 1 << 30
COPIES = 8  # of the file, at most, in sessions and messages at a time


def room_for(path: Path) -> int:
    """How much memory trying a file may take, with the weights beside it."""
    beside = (path, path.with_name(f"{path.name}.data"), path.with_suffix(".data"))
    return PROBE_BYTES + COPIES * sum(p.stat().st_size for p in set(beside) if p.is_file())


@contextmanager
def bounded_memory(more: int, where: str) -> Iterator[None]:
    """Limit the growth of this process to `more` bytes of address space: a small file may ask for terabytes.

    For the command lines only, as the limit holds for the whole process. Raises ModelError when it was not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    except (MemoryError, EncodeError) as e:
        raise ModelError(f"{where}: needs more than {more >> 20} MiB for two samples; a gateway cannot train it") from e
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
