# SPDX-License-Identifier: Apache-2.0
"""Replay recordings: append the rows of a table, and put pictures into a folder, each when its time has come.

One thread feeds all gateways. Each gateway's recordings keep their times to each other; all gateways begin together.
A gateway that cannot keep up loses nothing: rows and pictures wait in files.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from fedge_models.errors import StorageError

from .pictures import Picture

logger = logging.getLogger(__name__)

TICK_S = 0.1
MOST_ROWS = 20_000  # of one table at a tick: others wait no longer


class TableFeed:
    """One table: rows of `source` are appended to `target`."""

    def __init__(self, source: Path, target: Path, begin_ns: int) -> None:
        """begin_ns: time of the gateway's first reading."""
        self._source, self._target, self._begin_ns = source, target, begin_ns
        self.done = False

    def open(self) -> None:
        """Write the header, which a gateway that starts looks for. Raises OSError."""
        self._file: IO[str] = self._source.open(encoding="utf-8", newline="")
        self._out: IO[str] = self._target.open("a", encoding="utf-8", newline="")
        self._out.write(self._file.readline())
        self._out.flush()
        self._next = self._file.readline()

    def feed(self, passed_ns: int) -> None:
        """Append what is due when so much of the recording has passed. Raises OSError."""
        until, lines = self._begin_ns + passed_ns, list[str]()
        while self._next and len(lines) < MOST_ROWS and int(self._next.partition(",")[0]) <= until:
            lines.append(self._next)
            self._next = self._file.readline()
            while self._next and not self._next.partition(",")[0].isdecimal():  # a text with a line end in it
                lines.append(self._next)
                self._next = self._file.readline()
        if lines:
            self._out.write("".join(lines))
            self._out.flush()
        self.done = not self._next

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._out.close()


class PictureFeed:
    """One folder: copies of the pictures appear in `target`, with the times at which they were taken."""

    def __init__(self, pictures: Sequence[Picture], target: Path, begin_ns: int) -> None:
        self._pictures, self._target, self._begin_ns, self._at = pictures, target, begin_ns, 0
        self.done = not pictures

    def open(self) -> None:
        """Make the folder. Raises OSError."""
        self._target.mkdir()

    def feed(self, passed_ns: int) -> None:
        """Copy what is due. Raises OSError."""
        while self._at < len(self._pictures) and self._pictures[self._at].time_ns <= self._begin_ns + passed_ns:
            picture = self._pictures[self._at]
            part = self._target / f"{picture.path.name}.part"
            shutil.copyfile(picture.path, part)
            os.utime(part, ns=(picture.time_ns, picture.time_ns))
            part.replace(self._target / picture.path.name)
            self._at += 1
        self.done = self._at == len(self._pictures)

    def close(self) -> None:
        """Nothing is open."""


class ServedFeed:
    """A recording that another process replays: it begins when the file `go` is there, and has ended with `done`."""

    def __init__(self, go: Path, done: Path) -> None:
        self._go, self._done, self.done = go, done, False

    def open(self) -> None:
        """Nothing to open."""

    def feed(self, passed_ns: int) -> None:
        """Let it begin, and look whether it has ended. Raises OSError."""
        if not self._go.exists():
            self._go.touch()
        self.done = self._done.exists()

    def close(self) -> None:
        """Nothing is open."""


Feed = TableFeed | PictureFeed | ServedFeed


class Feeder:
    """The thread; `speed`: how many times real time. `stop` it also when it was not started."""

    def __init__(self, feeds: Sequence[Feed], speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._feeds, self._speed, self._clock = feeds, speed, clock
        self._stop, self._error = threading.Event(), ""
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._began = 0.0
        for feed in feeds:
            feed.open()

    def start(self) -> None:
        """Begin to replay."""
        self._began = self._clock()
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether everything was handed over. Raises StorageError when it cannot be."""
        if self._error:
            raise StorageError(self._error)
        return all(feed.done for feed in self._feeds)

    def stop(self) -> None:
        """End the thread, and close the files."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for feed in self._feeds:
            feed.close()

    def _run(self) -> None:
        try:
            while not self._stop.wait(TICK_S) and not all(feed.done for feed in self._feeds):
                passed = round((self._clock() - self._began) * self._speed * 1e9)
                for feed in self._feeds:
                    feed.feed(passed)
        except OSError as e:
            self._error = f"the replay stopped: {e.filename or ''}: {e.strerror}"
        except Exception as e:  # else the rehearsal would wait for its limit
            logger.exception("the replay stopped")
            self._error = f"the replay stopped: {type(e).__name__}: {e}"
