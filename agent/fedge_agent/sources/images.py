# SPDX-License-Identifier: Apache-2.0
"""Read the pictures that are put into a folder: each becomes one reading, in the order of time.

The folder is polled: a look costs less than a camera's picture, and works on NFS and SMB shares, where inotify reports
nothing. A file is read once it has not changed for `settle`, so that one that is still being written is waited for.
Links are ignored, and names of unfinished files (`.part`, `.tmp`, …).

Promises: no picture is read twice. It is recorded on disk before it is handed over, and at most `AHEAD` pictures are
handed over before the agent has decided on them. Only these can be lost by kill -9; they stay in the folder, and the
next start names them. After the decision a file is kept, deleted or moved. A file that is not a picture is counted and
moved to `rejected/`, which is bounded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models.errors import ConfigError, PictureError, UnreachableError
from fedge_models.system.settings import Positive, Seconds

from ..types import Pixels, Reading, Source, SourceHost
from ..windows.pictures import MAX_BYTES, RawFormat, check_decoder, check_raw, decode, decode_raw
from .image_journal import Journal, Seen
from .image_names import Times

MAX_FILES = 100_000  # in the folder: looking through more takes too long
AHEAD = 2  # batches that wait for the agent
WAIT_S = 0.005


class ImagesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "images"``; a tag is a pattern of file names, "*" or "cam1_*.png"."""

    path: Path
    poll: Positive = Positive(0.2)
    settle: Seconds = Seconds(0.2)  # a file that has not changed for so long is complete
    after: Literal["keep", "delete", "move"] = "keep"  # what to do with a picture after the decision
    move_to: Path | None = None  # folder on the same disk; default: `done` in the folder
    max_rejected: Annotated[int, msgspec.Meta(ge=0)] = 100  # files in `rejected/`; beyond it the oldest are deleted
    time_pattern: str = ""  # regular expression whose first group is the time in the name; empty: time of the file
    time_format: str = ""  # of that group, as strptime's (UTC unless it has %z); empty: ISO 8601 or Unix seconds
    ignore: tuple[str, ...] = ("*.part", "*.tmp", "*.partial", "*.filepart", "*~", ".*")
    raw: RawFormat | None = None  # the files are pixels without a header


class ImagesSource(Source):
    """Reads one folder."""

    Config = ImagesConfig

    def __init__(self, name: str, config: ImagesConfig) -> None:
        self._name, self._config, self._moves = name, config, True
        self._times = Times(config.time_pattern, config.time_format)
        if config.raw is not None:
            check_raw(config.raw)

    @property
    def can_wait(self) -> bool:
        """Pictures wait in the folder."""
        return True

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Look every `poll`. Raises UnreachableError while the folder cannot be read."""
        with Journal(host.folder / "pictures.sqlite") as journal:
            if interrupted := journal.interrupted():
                host.count("pictures that may not have been decided before the agent was killed", len(interrupted))
                host.problem(
                    "restart",
                    f"{self._config.path}: {_some(interrupted)} may not have been decided on before the agent was "
                    "killed; rename what is to be decided on again, and delete the rest",
                )
            Watch(self._config, self._times, tags, host, journal, moves=self._moves).run()

    def leave_no_trace(self) -> None:
        """Leave each picture where it is."""
        self._config, self._moves = msgspec.structs.replace(self._config, after="keep"), False

    def check(self, tags: Sequence[str]) -> list[str]:
        """Check that the folder can be read, and written to if `after` needs it."""
        path, problems = self._config.path, []
        try:
            names = [e.name for e in os.scandir(path) if e.is_file(follow_symlinks=False)]
        except OSError as e:
            return [f"{path}: cannot be read: {e.strerror}; expected a folder"]
        if self._config.after != "keep" and not os.access(path, os.W_OK):
            problems.append(f"{path}: may not be written to, which after = {self._config.after!r} needs")
        if self._config.raw is None:
            try:
                check_decoder()
            except ConfigError as e:
                problems.append(str(e))
        wrong = [n for n in names if _wanted(n, tags, self._config.ignore) and self._times.of(n, 0) is None]
        if wrong:
            problems.append(f"{path}: time_pattern does not fit {_some(wrong)}")
        return problems


class Watch:
    """One run of the source: what it knows of the folder."""

    def __init__(
        self,
        config: ImagesConfig,
        times: Times,
        tags: Sequence[str],
        host: SourceHost,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
        moves: bool = True,
    ) -> None:
        self._config, self._times, self._tags, self._host, self._journal = config, times, tags, host, journal
        self._clock, self._moves = clock, moves
        self._changed: dict[str, tuple[Seen, float]] = {}  # name -> its state, and since when
        self._rejected = config.path / "rejected"
        self._done = config.move_to or config.path / "done"

    def run(self) -> None:
        """Until the host stops it."""
        while not self._host.stop.is_set():
            self.poll()
            self._host.stop.wait(self._config.poll)

    def poll(self) -> None:
        """Look once, and read the pictures that are ready."""
        try:
            found = self._look()
        except OSError as e:
            raise UnreachableError(f"{self._config.path}: cannot be read: {e.strerror}") from e
        self._host.problem("connection", None)
        self._journal.forget_all_but(found)
        ready = [(self._times.of(name, seen.mtime_ns), name, seen) for name, seen in self._ready(found)]
        for time_ns, name, seen in sorted(ready, key=lambda r: (r[0] or 0, r[1])):
            if self._host.stop.is_set() or self._host.held():
                return
            self._take(time_ns, name, seen)

    def _look(self) -> dict[str, Seen]:
        """Files that match a tag."""
        found: dict[str, Seen] = {}
        with os.scandir(self._config.path) as entries:
            for i, entry in enumerate(entries):
                if i == MAX_FILES:
                    self._host.problem(
                        "folder", f"{self._config.path}: has more than {MAX_FILES} files; move them away"
                    )
                    break
                if _wanted(entry.name, self._tags, self._config.ignore) and entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    found[entry.name] = Seen(stat.st_ino, stat.st_mtime_ns, stat.st_size)
        return found

    def _ready(self, found: dict[str, Seen]) -> list[tuple[str, Seen]]:
        """Unread pictures that have not changed for long enough."""
        now, before = self._clock(), self._changed
        new = {name: seen for name, seen in found.items() if not self._journal.has(name, seen)}
        self._changed = {
            n: before[n] if n in before and before[n][0] == seen else (seen, now) for n, seen in new.items()
        }
        return [(n, seen) for n, (seen, since) in self._changed.items() if now - since >= self._config.settle]

    def _take(self, time_ns: int | None, name: str, seen: Seen) -> None:
        """Read one picture, record it, hand it over, and put it away after the decision."""
        try:
            if time_ns is None:
                raise PictureError(f"its name does not fit time_pattern {self._config.time_pattern!r}")
            pixels = self._read(name, seen)
        except FileNotFoundError:
            return  # somebody removed it
        except (PictureError, OSError) as e:
            if self._same(name, seen):  # else it was still growing: the next poll reads it
                self._reject(name, seen, str(e))
            return
        self._journal.take(name, seen)
        readings = [Reading(tag, time_ns, pixels) for tag in self._tags if fnmatch(name, tag)]
        self._host.emit(readings, origin=name)
        while self._host.waiting() >= AHEAD and not self._host.stop.wait(WAIT_S):
            pass
        self._put_away(name, seen)

    def _read(self, name: str, seen: Seen) -> Pixels:
        if seen.size > MAX_BYTES:
            raise PictureError(f"a file of {seen.size} bytes, expected at most {MAX_BYTES}")
        handle = os.open(self._config.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        raw = self._config.raw
        return decode(data) if raw is None else decode_raw(data, raw)

    def _same(self, name: str, seen: Seen) -> bool:
        try:
            stat = (self._config.path / name).lstat()
        except OSError:
            return False
        return Seen(stat.st_ino, stat.st_mtime_ns, stat.st_size) == seen

    def _put_away(self, name: str, seen: Seen) -> None:
        """Keep, delete or move a picture. If that fails, the file stays, and is not read again."""
        path = self._config.path / name
        try:
            if self._config.after == "delete" and self._same(name, seen):
                path.unlink()
            elif self._config.after == "move" and self._same(name, seen):
                self._done.mkdir(exist_ok=True)
                path.replace(self._done / name)
        except OSError as e:
            text = f"{path.name!r} could not be {self._config.after}d: {e.strerror}; it stays, and is not read again"
            self._host.problem("folder", text)
        self._journal.finish(name)

    def _reject(self, name: str, seen: Seen, why: str) -> None:
        self._host.count("pictures rejected")
        self._journal.take(name, seen)
        path, where = self._config.path / name, "it stays where it is"
        try:
            if self._moves:
                self._rejected.mkdir(exist_ok=True)
                path.replace(self._rejected / name)
                where = f"moved to {self._rejected}"
                _bound(self._rejected, self._config.max_rejected)
        except OSError as e:
            where = f"it could not be moved away: {e.strerror}"
        self._journal.finish(name)
        self._host.problem("rejected", f"the last of the rejected pictures, {name!r}: {why}; {where}")


def _wanted(name: str, tags: Sequence[str], ignore: Sequence[str]) -> bool:
    return not any(fnmatch(name, pattern) for pattern in ignore) and any(fnmatch(name, tag) for tag in tags)


def _bound(folder: Path, most: int) -> None:
    """Delete the oldest files beyond `most`."""
    entries = sorted(os.scandir(folder), key=lambda e: e.stat(follow_symlinks=False).st_ctime_ns)
    for entry in entries[: max(0, len(entries) - most)]:
        Path(entry.path).unlink()


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
