# SPDX-License-Identifier: Apache-2.0
"""A disk of a few MiB that can be filled and made read-only. Needs root and the right to mount; tests skip without."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import pytest


class SmallDisk:
    """A file system of its own in memory."""

    def __init__(self, folder: Path, mib: int = 8) -> None:
        self.folder, self._mib = folder, mib

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir()
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root may mount a file system")
        if self._mount("-t", "tmpfs", "-o", f"size={self._mib}m,mode=0700", "tmpfs", str(self.folder)):
            pytest.skip("this container may not mount a file system")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def read_only(self) -> None:
        """No write from now on, also to files that are open; as a kernel does after an error of the disk."""
        assert not self._mount("-o", "remount,ro", str(self.folder)), "files are open for writing"

    def writable(self) -> None:
        """As it was."""
        assert not self._mount("-o", "remount,rw", str(self.folder))

    def fill(self) -> None:
        """Leave no room for another byte."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink()

    def _mount(self, *words: str) -> int:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode
