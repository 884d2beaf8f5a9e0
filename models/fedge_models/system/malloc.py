"""Memory on small boards: what the C library holds on to after large objects are gone."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 1 << 20


def settle() -> None:
    """Let glibc take every block of 1 MiB and more from the kernel and hand it back at once (mallopt(3)).

    By default it raises that limit to what was freed last (up to 32 MiB) and keeps the holes: 14 MiB of 133 when a head
    is trained behind a trunk. To be called once, early, by whoever owns the process; elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Let glibc hand freed pages back to the kernel (malloc_trim(3)); elsewhere nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
