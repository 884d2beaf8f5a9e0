# SPDX-License-Identifier: Apache-2.0
"""Poll a server over HTTP, such as a MES for its current job, or a meter; a tag is a JSON pointer into the answer.

Each answer becomes one reading per tag, stamped on arrival or with the answer's own time; one that stands still goes on
with the time that passes here, and that is said. Promises: an answer that
cannot be used is a gap with a problem stated, and the next poll happens nevertheless. Leaves bounds, redirects and
error messages to `protocols.http`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from fedge_models.errors import FedgeError, RetryError
from fedge_models.system import times
from fedge_models.system.addresses import shown
from fedge_models.system.quoting import quote
from fedge_models.system.settings import Positive

from ..protocols.http import auth, client, headers, pointer
from ..protocols.http.answer_clock import AnswerClock
from ..protocols.http.kept import Connections
from ..protocols.http.settings import Server
from ..types import Quality, Reading, Source, SourceHost
from .polling import polled

MAX_TEXT = 256  # characters of a job, product or state


class HttpConfig(Server, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[source.X] type = "http"``; a tag is a JSON pointer (RFC 6901) into the answer, such as "/0/product"."""

    poll: Positive = Positive(10)  # time between two requests
    time: str = ""  # pointer to the time stamp: ISO 8601 or Unix time; empty: the time of arrival
    time_unit: times.Unit | None = None  # of numbers, since 1970; default: told by their size


class HttpSource(Source):
    """Polls one address."""

    Config = HttpConfig

    def __init__(self, name: str, config: HttpConfig) -> None:
        self._where, self._config = f"source {name}", config
        self._clock = AnswerClock()  # outlives connections: a time that stood still does so at the next one
        client.check_url(config.url, self._where)
        headers.check(config.headers, f"{self._where}.headers")
        pointer.check(config.time, f"{self._where}: time")

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Poll until `host.stop`. Raises RetryError or RefusedError, which ends the validity of earlier readings."""
        self._check_tags(tags)
        connections = Connections(self._config)
        try:
            self._poll(tags, host, connections)
        finally:
            connections.close()

    def _poll(self, tags: Sequence[str], host: SourceHost, connections: Connections) -> None:
        while not host.stop.is_set():
            began = time.monotonic()
            answer = self._ask(connections)
            readings, now_ns = self._readings(tags, answer)
            if self._config.time:
                readings, now_ns = self._timed(readings, now_ns, host)
            host.problem("connection", None)
            for reading in readings:
                bad = reading.quality is Quality.BAD
                why = _why_not(pointer.find(answer, reading.tag)) if bad else ""
                host.problem(reading.tag, f"the answer has {why}" if bad else None)
                if bad:
                    host.count("absent", 1, why)
            host.emit(readings, now_ns)
            host.stop.wait(max(0.0, began + self._config.poll - time.monotonic()))

    def check(self, tags: Sequence[str]) -> list[str]:
        """Ask once; a problem for each tag without a value."""
        try:
            self._check_tags(tags)
            with closing(Connections(self._config)) as connections:
                answer = self._ask(connections)
            readings, _ = self._readings(tags, answer)
        except FedgeError as e:
            return [str(e)]
        self.seen = {r.tag: r for r in readings if r.quality is not Quality.BAD}
        self.trial = polled(list(self.seen.values()), self._config.poll)
        url = shown(self._config.url)
        bad = [r.tag for r in readings if r.quality is Quality.BAD]
        return [f"{url}: tag {tag}: the answer has {_why_not(pointer.find(answer, tag))}" for tag in bad]

    def _check_tags(self, tags: Sequence[str]) -> None:
        for tag in tags:
            pointer.check(tag, f"{self._where}: tag")

    def _ask(self, connections: Connections) -> Any:
        config = self._config
        own = {k: headers.on_one_line(str(v)) for k, v in config.headers.items()}
        sent = {"Accept": "application/json", **own, **auth.static(config)}
        return connections.call("GET", config.url, None, sent, "value").data

    def _readings(self, tags: Sequence[str], answer: Any) -> tuple[list[Reading], int]:
        """One reading per tag, and their time, ns. Raises RetryError when the answer has no usable time."""
        now_ns = time.time_ns() if not self._config.time else self._stamp(pointer.find(answer, self._config.time))
        return [_reading(tag, now_ns, pointer.find(answer, tag)) for tag in tags], now_ns

    def _timed(self, readings: list[Reading], stamp_ns: int, host: SourceHost) -> tuple[list[Reading], int]:
        """The readings with a time that goes on while their values change, and that time, ns."""
        values = [None if r.quality is Quality.BAD else r.value for r in readings]
        made = self._clock.take(stamp_ns, values, time.monotonic())
        if made.replaced:
            host.count("times_implausible", len(readings), times.shown(stamp_ns) + " UTC")
        where = f"{shown(self._config.url)}: time at {self._config.time}"
        text = f"{where}: it stands still while values change, so the time that passes here is used"
        host.note("time", text if self._clock.stands else None)
        return [r._replace(time_ns=made.time_ns) for r in readings], made.time_ns

    def _stamp(self, value: Any) -> int:
        try:
            return times.parse(value, self._config.time_unit)
        except ValueError as e:
            raise RetryError(f"{shown(self._config.url)}: time at {self._config.time}: {e}") from e


def _reading(tag: str, time_ns: int, value: Any) -> Reading:
    if isinstance(value, (bool, int, float)) and abs(value) < 1e300 and math.isfinite(value):
        return Reading(tag, time_ns, float(value))
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return Reading(tag, time_ns, value)
    return Reading(tag, time_ns, math.nan, Quality.BAD)


def _why_not(value: Any) -> str:
    """What stands in place of a number or text, in words."""
    if isinstance(value, (int, float)):
        return f"{quote(value)} there: no quantity is so large"
    if isinstance(value, str):
        return f"a text of {len(value):,} characters there, expected at most {MAX_TEXT}"
    kind = "nothing" if value is None else "a list" if isinstance(value, list) else "a table"
    return f"{kind} there, expected a number or text"
