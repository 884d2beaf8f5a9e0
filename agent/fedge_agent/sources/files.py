# SPDX-License-Identifier: Apache-2.0
"""Read tables from files: replay recordings, or follow (`tail`) the rows that a program appends, day after day.

A replay runs in real or accelerated time, and its rows are stamped as if they were measured now; followed rows have the
times they contain. Malformed rows are counted and stop nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedge_models.errors import ConfigError
from fedge_models.system import times

from ..protocols.csv import first_rows, first_values, last_rows, listing
from ..protocols.csv.clock import PLAUSIBLE_NS
from ..protocols.csv.faults import Faults
from ..protocols.csv.form import is_workbook
from ..types import Source, SourceHost
from . import files_trial
from .files_config import FilesConfig
from .files_follow import follow
from .files_position import rewind
from .files_replay import replay


class FilesSource(Source):
    """Reads one file, or those of a pattern."""

    Config = FilesConfig

    def __init__(self, name: str, config: FilesConfig) -> None:
        where = f"source {name}: {config.path}"
        if config.tail and config.path.suffix == ".gz" and not listing.is_pattern(config.path):
            what = "a compressed file cannot be followed; expected plain CSV, or a pattern of names"
            raise ConfigError(f"{where}: {what}: what it finds is read in order, compressed or not")
        if config.tail and is_workbook(config.path):
            what = "an Excel workbook cannot be followed: it is written anew as a whole"
            raise ConfigError(f"{where}: {what}. Export CSV files, or read it once without tail")
        if config.tail and config.time_format == "elapsed":
            raise ConfigError(f'{where}: key time_format: "elapsed" is of recordings; followed rows need a date')
        self._config = config
        self.reads = [str(config.path)]
        self._notes: list[str] = []  # what `check` read that is left out
        self._looks = False  # it is only looked what comes: the last rows, where all were read before
        self._faults: Faults | None = None  # of all runs: a problem of the last one is withdrawn by this one

    @property
    def can_wait(self) -> bool:
        """Whether rows wait in the file; a replay is paced by the clock."""
        return self._config.tail

    def leave_no_trace(self) -> None:
        """Read a followed file's last rows again, from a copy of the position."""
        self._looks = True

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Emit each row when its time comes (replay), or when it was written (tail)."""
        if self._looks and self._config.tail:
            self._looks = False
            rewind(host.folder / "position.json", self._config.path)
        self._faults = self._faults or Faults(host.count, host.problem)
        (follow if self._config.tail else replay)(self._config, tags, host, self._faults)

    def check(self, tags: Sequence[str]) -> list[str]:
        """Read the first rows of the file, or of a pattern's first and newest file; of one that is followed, the last
        rows, too."""
        self._notes = []
        if self._is_empty_yet():
            self.remarks = [f"{self._config.path} is empty: its columns cannot be checked before its header is written"]
            return []
        problems, config = self._problems(tags), self._config
        self.remarks = list(self._notes)
        if not problems and not listing.is_pattern(config.path):
            self.seen = first_values.values(config.path, config, tags)
        if not problems and config.time_column:
            self._try(tags)
        return problems

    def _is_empty_yet(self) -> bool:
        """Whether nothing was written yet to a file that is followed: `run` waits for it."""
        path = self._config.path
        return self._config.tail and not listing.is_pattern(path) and path.is_file() and path.stat().st_size == 0

    def _try(self, tags: Sequence[str]) -> None:
        """Note what `run` would deliver of the first and the last rows, of the newest file, and at which pace."""
        config, several = self._config, listing.is_pattern(self._config.path)
        path = listing.found(config.path)[-1] if several else config.path
        rows = first_values.timed(path, config, tags)
        last = last_rows.timed(path, config, tags) if config.tail else []
        if not config.tail and rows:
            self.trial = files_trial.replayed(rows, config.speed)
        elif config.tail:
            self._follow(rows, last, several)
        first_ns = min((at for at, _ in rows), default=None)
        if first_ns is not None and first_ns < PLAUSIBLE_NS and config.time_format != "elapsed":
            said = f"its times begin at {times.shown(first_ns)}: was the writer's clock ever set?"
            self.remarks = [*self.remarks, said]

    def _follow(self, rows: files_trial.Rows, last: files_trial.Rows, several: bool) -> None:
        """Note what `run` would deliver of a followed file: from its end, the last rows alone tell it."""
        if self._config.start == "end":
            rows, last = last or rows, []
            self.seen = first_values.usual(reading for _, readings in rows for reading in readings)
        self.trial = files_trial.followed(rows)
        if last and last != rows:
            self.newest = files_trial.followed(last)
            usual = first_values.usual(reading for _, readings in last for reading in readings)
            self.seen = {**self.seen, **{t: r for t, r in usual.items() if isinstance(r.value, float)}}
        if self._config.start == "begin" and not several and (ends := rows + last):
            self.span_ns = min(at for at, _ in ends), max(at for at, _ in last or rows)

    def _problems(self, tags: Sequence[str]) -> list[str]:
        config = self._config
        if not listing.is_pattern(config.path):
            return self._problems_of(config.path, tags)
        there = listing.found(config.path)
        paths = listing.readable(there) if config.tail else there
        if there and there[-1] not in paths:
            return [f"{config.path}: its newest file, {there[-1].name}, cannot be followed; expected CSV"]
        if not paths:
            return [f"{config.path}: there is no file of this pattern"]
        chosen = dict.fromkeys((paths[0], paths[-1]))
        return [problem for path in chosen for problem in self._problems_of(path, tags)]

    def _problems_of(self, path: Path, tags: Sequence[str]) -> list[str]:
        config = self._config
        follows = config.tail and config.tag_column and config.time_column
        later = last_rows.tags_there(path, config, tags) if follows else ()
        return first_rows.problems(path, config, tags, config.tail, notes=self._notes, later=later)
