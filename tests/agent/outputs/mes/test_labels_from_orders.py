# SPDX-License-Identifier: Apache-2.0
"""The loop closed: an alarm becomes an order, a person closes it, and what they found teaches the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import When
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.alerts import Alert
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.mes.orders import Order
from fedge_agent.outputs.mes.output import LONGEST_OPEN_S, MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Decision
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Positive, Seconds
from support.at_end import AtEnd
from support.canned_http import CannedServer, reply
from support.databases import rows
from support.waiting import until

S = 1_000_000_000
T0 = 1_700_000_000 * S
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


def test_an_alarm_that_never_cleared_labels_no_future_when_ntp_comes(at_end: AtEnd, tmp_path: Path) -> None:
    """The order was noticed at 1970, a minute after the start, and is closed when the clock is right."""
    order = Order("gw:m:pump:1", "pump", T0, 60.0, None, "17", None, None, False, None)
    with CannedServer(lambda _: reply(200, '{"code": "no fault found"}')) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        config = MesConfig(url=server.url, status=status, closing={"no fault found": "normal"}, poll=Positive(0))
        mes = at_end(MesOutput("cmms", config))
        mes.begin(tmp_path)
        label = mes._closed(order)
    assert label is not None and label.start_ns == T0 and label.end_ns == T0 + round(LONGEST_OPEN_S * S)
