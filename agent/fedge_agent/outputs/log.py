# SPDX-License-Identifier: Apache-2.0
"""Events as JSON lines, in a file of bounded size or in the process's own log."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import msgspec
from fedge_models.errors import StorageError
from fedge_models.system import disk, files

from .. import figures
from ..types import Event, Output

logger = logging.getLogger("fedge.events")


Size = Annotated[int, msgspec.Meta(ge=1)]  # bytes


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[output.X] type = "log"``."""

    path: Path | None = None  # without: the log of the process
    max_bytes: Size = 10_000_000  # then it is renamed to <path>.1, replacing an older one, and a new file begins


class LogOutput(Output):
    """Appends one line per event."""

    Config = LogConfig

    def __init__(self, name: str, config: LogConfig) -> None:
        self._config = config
        if (path := config.path) is not None:
            self.claims = [files.one_name(p) for p in (path, path.with_name(path.name + ".1"))]

    def deliver(self, event: Event) -> None:
        """Write the line. Raises StorageError when the disk is full."""
        line = msgspec.json.encode(figures.of_event(event))
        path = self._config.path
        if path is None:
            logger.info("%s", line.decode())
            return
        try:
            if path.exists() and path.stat().st_size + len(line) > self._config.max_bytes:
                path.replace(path.with_name(path.name + ".1"))
            with path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as e:
            raise StorageError(f"{path}: {e.strerror}") from e

    def check(self) -> list[str]:
        """Whether the folder is there, and the file can be written."""
        path = self._config.path
        if path is None:
            return []
        if not path.parent.is_dir():
            return [f"{path.parent}: no such folder"]
        if path.is_dir():
            return [f"{path}: a folder; expected a file"]
        if path.exists():
            return [] if os.access(path, os.W_OK) else [files.explain(PermissionError(), path)]
        problem = disk.folder_problem(path.parent)
        return [f"{path}: cannot be made: {problem}"] if problem else []
