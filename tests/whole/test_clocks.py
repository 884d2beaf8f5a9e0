# SPDX-License-Identifier: Apache-2.0
"""A gateway whose wall clock is wrong, and is set: it decides, raises its events, and recovers. Real processes."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.canned_http import CannedServer, Request, reply
from support.faketime import WallClock
from support.gateway import Gateway

pytestmark = pytest.mark.slow

HZ = 20.0
HOUR, DAY = 3600.0, 86400.0
CARD = Card("classify", (Channel("level"),), WindowSpec(HZ, 4, 2), ("mean",), labels=("normal", "fault"))
NORMAL, FAULT = -100.0, 100.0


def model() -> onnx.ModelProto:
    """A fault is what is above zero."""
    made = zoo.mlp(CARD, 1, ())
    for tensor in made.graph.initializer:
        values = (
            [-1.0, 1.0] if math.prod(tensor.dims) == 2 and len(tensor.dims) == 2 else [0.0] * math.prod(tensor.dims)
        )
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(values, np.float32).reshape(tensor.dims), tensor.name))
    return made


class Site(Gateway):
    """One agent and one meter without a time of its own: its readings have the time of the gateway's clock."""

    def __init__(self, folder: Path) -> None:
        self.level = NORMAL
        self.meter = CannedServer(lambda _: reply(200, json.dumps({"level": self.level + random.random()})))
        self.meter.__enter__()
        super().__init__(
            folder,
            "m",
            f"""
[source.meter]
type = "http"
url = "{self.meter.url}/level"
poll = "40ms"
[model.f]
file = "model.onnx"
[asset.m]
model = "f"
channels.level = {{ source = "meter", tag = "/level" }}
when = {{ score_above = 0.5, for_windows = 2, min_gap = "20m" }}
[output.events]
type = "log"
""",
            model(),
        )
        self.clock = WallClock(folder)
        self.env |= self.clock.env

    def decides(self) -> None:
        """Return when it has decided on windows that began after the call."""
        before = self.asset()["counters"]["windows"]
        self.wait(lambda: self.asset()["counters"]["windows"] > before + 10, "windows of now")

    def fault(self, events: int) -> None:
        """A fault that opens an event, of so many since the start, and clears it."""
        self.level = FAULT
        self.wait(lambda: self.asset()["alert"]["opened"], "an event to open")
        self.level = NORMAL
        self.wait(lambda: not self.asset()["alert"]["opened"], "an event to clear")
        assert self.asset()["events"] == events
        self.wait(lambda: self.status("gw")["outputs"]["events"]["pending"] == 0, "the events to be delivered")

    def restart(self) -> None:
        assert self.end() == [0]
        self.start("gw")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    codes = made.end()
    made.meter.__exit__(None, None, None)
    assert codes == [0], (tmp_path / "gw.log").read_text()[-2000:]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("ahead", [HOUR, 400 * DAY])
def test_a_clock_that_was_ahead_mutes_no_event_when_it_is_put_right(site: Site, ahead: float, restarts: bool) -> None:
    site.clock.shift(ahead)
    site.start("gw")
    site.decides()
    site.fault(1)
    site.clock.shift(0)
    if restarts:
        site.restart()
    site.decides()
    site.fault(1 if restarts else 2)
    assert site.status("gw")["uptime_s"] < 600


@pytest.mark.parametrize("restarts", [False, True])
def test_started_at_1970_it_decides_raises_events_and_recovers_when_ntp_comes(site: Site, restarts: bool) -> None:
    site.start("gw")
    site.decides()
    site.fault(1)  # yesterday, say
    assert site.end() == [0]
    site.clock.shift(100 - time.time())
    site.start("gw")
    site.decides()
    site.fault(1)
    assert site.asset()["last"]["time_ns"] < 1e9 * DAY
    site.clock.shift(0)
    if restarts:
        site.restart()
    site.decides()
    site.fault(1 if restarts else 2)
    assert abs(site.asset()["last"]["time_ns"] / 1e9 - time.time()) < HOUR
    assert site.status("gw")["inbox"]["dropped"] == 0


@pytest.mark.parametrize("shift", [-HOUR, HOUR, -400 * DAY])
def test_an_event_that_is_open_while_the_clock_is_set_clears(site: Site, shift: float) -> None:
    site.start("gw")
    site.decides()
    site.level = FAULT
    site.wait(lambda: site.asset()["alert"]["opened"], "an event to open")
    site.clock.shift(shift)
    site.decides()
    assert site.asset()["alert"]["opened"] and site.asset()["events"] == 1
    site.level = NORMAL
    site.wait(lambda: not site.asset()["alert"]["opened"], "the event to clear")
    assert site.asset()["counters"]["clock_jumps"] == 1


@pytest.mark.parametrize("change", ["2026-03-29T01:00:00", "2026-10-25T01:00:00"])  # in Berlin, in UTC
def test_summer_time_begins_and_ends_without_notice(site: Site, change: str) -> None:
    site.env["TZ"] = "Europe/Berlin"
    before = datetime.fromisoformat(change).replace(tzinfo=timezone.utc).timestamp() - 8
    site.clock.shift(before - time.time())
    site.start("gw")
    site.wait(lambda: (site.asset()["last"] or {"time_ns": 0})["time_ns"] > (before + 12) * 1e9, "the change")
    counters = site.asset()["counters"]
    assert counters["clock_jumps"] == counters["gaps"] == counters["late"] == 0


class SlowMes:
    """A MES that makes an order some seconds after the request, whose answer is lost."""

    def __init__(self) -> None:
        self.made: list[tuple[float, str]] = []

    def __call__(self, asked: Request) -> bytes:
        now = time.monotonic()
        if asked.line.startswith("GET"):
            found = [{"id": i, "reference": key} for i, (at, key) in enumerate(self.made) if now >= at]
            return reply(200, json.dumps({"items": found}))
        self.made.append((now + 3.0, json.loads(asked.body)["reference"]))
        return b""


@pytest.mark.parametrize("set_by", [-HOUR, 400 * DAY])
def test_a_clock_that_is_set_makes_no_second_order(site: Site, set_by: float) -> None:
    mes = SlowMes()
    with CannedServer(mes) as server, site.config.open("a") as config:
        config.write(f'''
[output.mes]
type = "mes"
url = "{server.url}"
settle = "6s"
find = {{ method = "GET", url = "/find", rows = "/items", key = "/reference", match = "{{key}}", id = "/id" }}
create = {{ url = "/orders", body = {{ reference = "{{key}}" }}, id = "/id" }}
''')
        config.flush()
        site.start("gw")
        site.decides()
        site.level = FAULT
        site.wait(lambda: site.status("gw")["outputs"]["mes"]["error"], "a create without an answer")
        site.clock.shift(set_by)
        site.wait(
            lambda: site.status("gw")["outputs"]["mes"]["orders"] == 1,
            "the order to be found",
        )
        assert len(mes.made) == 1
