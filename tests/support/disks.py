# SPDX-License-Identifier: Apache-2.0
"""Disks of a few MiB that can be full, read-only, failing, or lose their power. Need root; tests skip without."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # _IOR('X', 125, __u32) of the kernel's include/uapi/linux/ext4.h


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

    def exhaust_inodes(self) -> None:
        """Leave no inode for another file."""
        used = os.statvfs(self.folder)
        count = used.f_files - used.f_ffree
        assert not self._mount("-o", f"remount,nr_inodes={count}", str(self.folder))

    def free(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink()

    def _mount(self, *words: str) -> int:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode


class PowerCutDisk:
    """An ext4 file system whose power can be cut: what was not synced is gone (ioctl EXT4_IOC_SHUTDOWN, NOLOGFLUSH)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._image = folder, folder.with_name(f"{folder.name}.img")

    def __enter__(self) -> PowerCutDisk:
        self.folder.mkdir()
        if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
            pytest.skip("only root may mount a file system; needs mkfs.ext4")
        with self._image.open("wb") as file:
            file.truncate(32 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        if self._mount():
            pytest.skip("this container may not mount a file system")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def cut(self, process: subprocess.Popen[str]) -> None:
        """Cut the power and switch it on again; the process that wrote there ends with it."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)
        process.kill()
        process.communicate()
        subprocess.run(["umount", str(self.folder)], check=True)
        assert not self._mount()

    def fail(self) -> None:
        """From now on every write is refused, as ext4 does after an error of the disk."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], check=True)

    def _mount(self) -> int:
        words = ["mount", "-o", "loop", str(self._image), str(self.folder)]
        return subprocess.run(words, capture_output=True, check=False).returncode
