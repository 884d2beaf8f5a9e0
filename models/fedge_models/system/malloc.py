# SPDX-License-Identifier: Apache-2.0
"""Memory on small boards: what the C library keeps of large objects that were freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

LARGE_BYTES = 1 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def return_large_blocks(large_bytes: int = LARGE_BYTES) -> None:
    """Let glibc take every block of this size and more from the kernel, and hand it back once it is freed (mallopt(3)).

    By default glibc raises that limit to the largest block it has freed (up to 32 MiB) and keeps all blocks below it:
    14 MiB of 133 when a head is trained behind a trunk. A limit that is set no longer moves, so the size above which
    free memory at the top of the heap is handed back is set too; left at 128 KiB it would be handed back too often.
    Called once, early, by the program that owns the process; with another C library nothing happens.
    """
    with suppress(OSError, AttributeError):
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(option, large_bytes)


def give_back() -> None:
    """Let glibc hand freed pages back to the kernel (malloc_trim(3)); with another C library nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
