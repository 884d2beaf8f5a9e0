# SPDX-License-Identifier: Apache-2.0
"""Find when a picture was taken: from the name of its file, or from the file's time. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from fedge_models.errors import ConfigError
from fedge_models.system import times


class Times:
    """Reads times from names with a regular expression's first group. Raises ConfigError for one without a group."""

    def __init__(self, pattern: str, format_: str) -> None:
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as e:
            raise ConfigError(f"time_pattern {pattern!r} is not a regular expression: {e}") from e
        if self._pattern is not None and not self._pattern.groups:
            raise ConfigError(f"time_pattern {pattern!r} has no group; put brackets around the time")
        self._format = format_

    def of(self, name: str, mtime_ns: int) -> int | None:
        """Nanoseconds since 1970; None if the name does not fit."""
        if self._pattern is None:
            return mtime_ns
        found = self._pattern.search(name)
        if found is None or found[1] is None:
            return None
        try:
            return self._parse(found[1])
        except ValueError:
            return None

    def _parse(self, text: str) -> int:
        if self._format:
            return times.in_range(times.of(datetime.strptime(text, self._format)), text)
        return times.parse(text)
