# SPDX-License-Identifier: Apache-2.0
"""Read tables from files: replay recordings, or follow (`tail`) the rows that a program appends, day after day.

A replay runs in real or accelerated time, and its rows are stamped as if they were measured now; followed rows have the
times they contain. Malformed rows are counted and stop nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedge_models.errors import ConfigError

from ..protocols.csv import first_rows, listing
from ..protocols.csv.faults import Faults
from ..protocols.csv.form import is_workbook
from ..types import Source, SourceHost
from .files_config import FilesConfig
from .files_follow import follow
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
        self._faults: Faults | None = None  # of all runs: a problem of the last one is withdrawn by this one

    @property
    def can_wait(self) -> bool:
        """Whether rows wait in the file; a replay is paced by the clock."""
        return self._config.tail

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Emit each row when its time comes (replay), or when it was written (tail)."""
        self._faults = self._faults or Faults(host.count, host.problem)
        (follow if self._config.tail else replay)(self._config, tags, host, self._faults)

    def check(self, tags: Sequence[str]) -> list[str]:
        """Read the first rows of the file, or of a pattern's first and newest file."""
        problems = self._problems(tags)
        if not problems and not listing.is_pattern(self._config.path):
            self.seen = first_rows.values(self._config.path, self._config, tags)
        return problems

    def _problems(self, tags: Sequence[str]) -> list[str]:
        config = self._config
        if not listing.is_pattern(config.path):
            return first_rows.problems(config.path, config, tags, config.tail)
        there = listing.found(config.path)
        paths = listing.readable(there) if config.tail else there
        if there and there[-1] not in paths:
            return [f"{config.path}: its newest file, {there[-1].name}, cannot be followed; expected CSV"]
        if not paths:
            return [f"{config.path}: there is no file of this pattern"]
        chosen = dict.fromkeys((paths[0], paths[-1]))
        return [problem for path in chosen for problem in first_rows.problems(path, config, tags, config.tail)]
