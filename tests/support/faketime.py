# SPDX-License-Identifier: Apache-2.0
"""A wall clock that a test sets while a program runs (libfaketime); the monotonic clock stays what it is."""

from __future__ import annotations

from pathlib import Path

from support.counterparts import program


class WallClock:
    """The wall clock of programs that are started with `env`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        self.shift(0)

    @property
    def env(self) -> dict[str, str]:
        """What a program's environment needs besides."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, seconds: float) -> None:
        """Set the clock so far ahead of (negative: behind) the true time."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+.0f}\n")
        written.replace(self._file)


def _library() -> Path:
    """The preloaded library, which lies where Debian's package of the command puts it."""
    program("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0]
