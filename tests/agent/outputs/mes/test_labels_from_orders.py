# SPDX-License-Identifier: Apache-2.0
"""The loop closed: an alarm becomes an order, a person closes it, and what they found teaches the samples."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import When
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.alerts import Alert
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.mes.orders import Orders
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Decision, Event
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Positive, Seconds
from support.at_end import AtEnd
from support.canned_http import CannedServer, reply
from support.databases import rows
from support.waiting import until

S = 1_000_000_000
T0 = 1_700_000_000 * S
DAY_S = 86_400.0
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 10, 10), ("mean",))
SCORES = [0.1, 0.2, 3, 3, 3, 3, 3, 0.1, 0.1, 0.1, 0.2]  # of windows of ten seconds, one after the other


@pytest.mark.parametrize(("found", "taught"), [("no fault found", 0.0), ("bearing", 1.0)])
def test_closed_order_teaches_the_model(at_end: AtEnd, tmp_path: Path, found: str, taught: float) -> None:
    samples, spool = (
        at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000})),
        at_end(Spool(tmp_path / "spool.sqlite")),
    )
    book = at_end(LabelBook(tmp_path / "samples.sqlite", {"pump": Subject("m", lambda: CARD)}, samples.count_as_new))
    alert = Alert("gw", "pump", When(for_windows=2, min_gap=Seconds(0)), AlertState())
    for i, score in enumerate(SCORES):
        end = T0 + 10 * i * S
        samples.put(Sample("m", "pump", end, np.zeros(1, np.float32), None, False, 10 * S, ""))
        samples.flush()
        if made := alert.update(Decision("pump", "m", 1, end, score, 1.0, "anomaly", 0.0, 0.001)):
            spool.put_event(["cmms"], *made)
    state = {"code": "open"}
    with CannedServer(
        lambda asked: reply(200, f'{{"code": "{state["code"]}"}}' if "GET" in asked.line else "{}")
    ) as server:
        closing = {"no fault found": "normal", "bearing": "anomaly"}
        status = Step(method="GET", url="/{id}", code="/code")
        mes = at_end(MesOutput("cmms", MesConfig(url=server.url, status=status, closing=closing, poll=Positive(0))))
        hosted = HostedOutput("cmms", mes, spool, tmp_path, book.put)
        hosted.start()
        until(lambda: any("GET" in asked.line for asked in server.requests), hosted.status)
        state["code"] = found  # a person looked at the machine

        def learnt() -> int:
            hosted.wake()
            labels: int = hosted.status()["labels"]
            return labels

        until(learnt, hosted.status)
        hosted.stop(10)
    book.match_new()
    known = [y for (y,) in rows(tmp_path / "samples.sqlite", "SELECT y FROM samples ORDER BY time_ns")]
    # Of the first window that was too high only the end is in the span; of the well ones nothing is.
    assert known == [None, None, None, *[taught] * 4, *[None] * 4]
    book.stop()
    samples.stop()
    spool.close()


@pytest.mark.parametrize(
    ("noticed", "wall", "labelled_s"),
    [
        (-3000.0, 0.0, 3090.0),  # by an earlier process, 50 minutes before this one
        (None, 0.0, 90.0),
        (None, 400 * DAY_S, 90.0),  # the clock was set while this process ran
        (None, -400 * DAY_S, 90.0),
        (-400 * DAY_S, 0.0, 90.0),  # or before it started: noticed at a time that is wrong
        (400 * DAY_S, 0.0, 90.0),
    ],
)
def test_an_alarm_that_never_cleared_labels_no_future_when_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch,
    at_end: AtEnd,
    tmp_path: Path,
    noticed: float | None,
    wall: float,
    labelled_s: float,
) -> None:
    """The order is closed 90 s after the process began. noticed: before that, in an earlier process."""
    began, ticks = time.time(), [time.monotonic()]
    monkeypatch.setattr(time, "time", lambda: began)
    monkeypatch.setattr(time, "monotonic", lambda: ticks[0])
    if noticed is not None:
        earlier = Orders(tmp_path / "cmms.sqlite")
        earlier.notice("gw:m:pump:1", "pump", T0, began + noticed)
        earlier.made("gw:m:pump:1", "17")
        earlier.close()
    with CannedServer(lambda _: reply(200, '{"id": 17, "code": "no fault found"}')) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        closing = {"no fault found": "normal"}
        config = MesConfig(
            url=server.url, create=Step(body={}, id="/id"), status=status, closing=closing, poll=Positive(0)
        )
        mes = at_end(MesOutput("cmms", config))
        mes.begin(tmp_path)
        if noticed is None:
            mes.deliver(
                Event("gw:m:pump:1", "opened", Decision("pump", "m", 1, T0, 3.0, 1.0, "anomaly", 0.0, 0.0), 3.0)
            )
        monkeypatch.setattr(time, "time", lambda: began + wall)
        ticks[0] += 90.0
        [label] = mes.collect()
    assert (label.start_ns, label.end_ns) == (T0, T0 + round(labelled_s * S))
