# SPDX-License-Identifier: Apache-2.0
"""Events through the real agent and its command line: a lasting fault stays open over every learning until somebody
decides; acknowledge, accept, shelve and comment while it runs and while it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.canned_http import CannedServer, Request, reply
from support.gateway import JOURNAL, Gateway

HZ = 250.0  # fifty windows a second, so that nobody waits long for the fault
CARD = Card("anomaly", (Channel("a"),), WindowSpec(HZ, 5, 5), ("mean", "std"))
NORMAL_S, FAULT = 6, 40.0


class Press(Gateway):
    """One machine that replays a recording: normal for six seconds, and then never again."""

    def __init__(self, folder: Path) -> None:
        rows = [f"{(i % 23) / 10 + (FAULT if i > NORMAL_S * HZ else 0)}" for i in range(round(400 * HZ))]
        (folder / "machine.csv").write_text("\n".join(["a", *rows]))
        super().__init__(
            folder,
            "press",
            f"""
[source.line]
type = "files"
path = "machine.csv"
rate_hz = {HZ}
[model.m]
file = "model.onnx"
training = {{ min_samples = 20 }}
[asset.press]
model = "m"
baseline = "2s"
channels.a = {{ source = "line", tag = "a" }}
[asset.press.when]
min_gap = 0
{JOURNAL}
""",
            zoo.autoencoder(CARD, 2, (1,)),
        )

    def event(self, *words: str) -> Result:
        return self.call("event", *words)

    def open(self) -> bool:
        return bool(self.asset()["alert"]["opened"])

    def listed(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.event("list", "--json", *words).output)["events"]
        return found

    def sent(self) -> list[tuple[str, str]]:
        return [(event["key"], event["state"]) for event in self.events()]

    def fits(self) -> int:
        """How many samples the agent has collected: it learns again whenever they have grown by a twentieth."""
        return int(sum(self.status("gw")["models"]["m"]["samples"].values()))


@pytest.fixture
def press(tmp_path: Path) -> Iterator[Press]:
    made = Press(tmp_path)
    yield made
    made.end()


def test_a_lasting_fault_stays_open_until_it_is_accepted(press: Press) -> None:
    done = press.event("list")
    assert done.exit_code == 1 and "the agent has not yet run" in done.stderr
    press.start("gw")
    press.wait(lambda: press.asset()["baseline"] and press.asset()["baseline"]["done"], "the baseline")
    done = press.event("list")
    assert done.exit_code == 0 and "no event waits for anybody" in done.output
    press.wait(press.open, "the fault")
    limit, collected = press.asset()["last"]["threshold"], press.fits()
    press.wait(lambda: press.fits() > 1.3 * collected, "several trainings")
    assert press.open() and press.asset()["last"]["threshold"] < 3 * limit
    (event,) = press.listed()
    assert event["withheld"] > 0 and event["cleared_ns"] is None and event["acknowledged"] is None
    shown = press.call("status").output
    assert f"windows of event {event['key']} withheld from training" in shown, shown
    assert event["key"] in press.event("list").output
    done = press.event("ack", event["key"], "--by", "anna", "--comment", "the bearing")
    assert done.exit_code == 0, done.output
    collected = press.fits()
    press.wait(lambda: press.fits() > collected + 40, "more windows of the fault")
    assert press.open() and press.listed()[0]["verdict"] == "fault" and press.listed()[0]["who"] == "anna"
    assert press.event("accept", event["key"], "--by", "ben").exit_code == 0
    press.wait(lambda: not press.open() and (event["key"], "cleared") in press.sent(), "that it is normal now")
    press.wait(lambda: press.listed() == [], "the book")
    press.kill("gw")
    assert press.event("comment", event["key"], "a new tool").exit_code == 0  # while it does not run
    (event,) = press.listed("--all")
    assert event["verdict"] == "normal" and [n["action"] for n in event["notes"]] == ["ack", "accept", "comment"]
    press.start("gw")
    press.wait(lambda: press.status("gw")["event_book"]["withheld"] == {}, "the book after a restart")


def test_what_is_shelved_reaches_no_output_before_its_end(press: Press) -> None:
    press.start("gw")
    press.wait(lambda: press.asset()["baseline"], "the model")
    assert press.event("shelve", "press", "--for", "1h", "--by", "anna", "--comment", "cleaning").exit_code == 0
    press.wait(lambda: press.status("gw")["event_book"]["shelved"], "the shelf")
    press.wait(press.open, "the fault")
    press.wait(lambda: press.listed() and not press.listed()[0]["sent"], "the event in the book")
    assert press.sent() == []
    shown = press.call("status").output
    assert "press: shelved until" in shown and "by anna" in shown and "cleaning" in shown
    assert press.status("gw")["event_book"]["suppressed"] >= 1
    assert press.event("comment", press.listed()[0]["key"], "water in the gearbox").exit_code == 0
    assert "water in the gearbox" in press.event("list").output
    assert press.event("shelve", "press", "--for", "0s").exit_code == 0
    press.wait(lambda: press.sent() and press.sent()[0][0] == press.listed()[0]["key"], "the event, which lasts")
    assert "fedge_agent_withheld_windows" in press.text("gw", "/metrics")


@pytest.mark.parametrize("lost", [["spool.sqlite"], ["spool.sqlite", "inbox.sqlite"]])
def test_what_is_open_is_sent_again_when_the_spool_is_gone_and_cleared_later(press: Press, lost: list[str]) -> None:
    press.start("gw")
    press.wait(lambda: press.sent() and press.listed(), "the fault")
    key = press.sent()[0][0]
    press.kill("gw")
    press.journal.unlink()  # as if the event had waited in the spool
    for name in lost:
        for path in (press.folder / "gw").glob(f"{name}*"):
            path.unlink()
    press.start("gw")  # the recording begins again: the machine is well
    press.wait(lambda: (key, "cleared") in press.sent(), "the end of the event")
    assert press.sent()[0] == (key, "opened")
    said, status = press.told("gw"), press.status("gw")
    assert all(f"PROBLEM {name} was lost: it was gone" in said for name in lost)
    assert status["lost"]["databases"] == len(lost) == len(status["storage"]["damaged"])


class Maintenance:
    """A MES that makes an order for each event, and closes all as soon as it has a closing code."""

    def __init__(self) -> None:
        self.code = "open"
        self.orders = 0

    def __call__(self, asked: Request) -> bytes:
        if asked.line.startswith("POST"):
            self.orders += 1
            return reply(201, f'{{"id": {self.orders}}}')
        return reply(200, f'{{"closing_code": "{self.code}"}}')


@pytest.mark.parametrize(("code", "verdict"), [("no fault found", "normal"), ("bearing", "fault")])
def test_the_closing_code_of_the_order_decides(press: Press, code: str, verdict: str) -> None:
    mes = Maintenance()
    with CannedServer(mes) as server:
        with press.config.open("a") as config:
            config.write(
                f"""
[output.mes]
type = "mes"
url = "{server.url}"
poll = "200ms"
closing = {{ "no fault found" = "normal", bearing = "anomaly" }}
create = {{ url = "/orders", body = {{ key = "{{key}}" }}, id = "/id" }}
status = {{ method = "GET", url = "/orders/{{id}}", code = "/closing_code" }}
"""
            )
        press.start("gw")
        press.wait(lambda: press.asset()["baseline"] and press.open(), "the fault")
        press.wait(lambda: mes.orders, "the order")
        press.wait(lambda: press.listed() and press.listed()[0]["withheld"], "withheld windows")
        mes.code = code
        press.wait(lambda: press.listed("--all")[0]["verdict"] == verdict, "the word of the MES")
        assert press.status("gw")["event_book"]["withheld"] == {}
        if verdict == "normal":
            press.wait(lambda: not press.open(), "that it is normal now")
        else:
            collected = press.fits()
            press.wait(lambda: press.fits() > collected + 40, "more windows of the fault")
            assert press.open()
        press.end()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Press:
    """A machine whose agent ran and has ended."""
    made = Press(tmp_path_factory.mktemp("ran"))
    made.start("gw")
    made.end()
    return made


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["shelve", "press"], "give --for or --until"),
        (["shelve", "press", "--for", "soon"], "--for 'soon': expected a duration"),
        (["shelve", "press", "--for", "90d"], "at most 31 days"),
        (["shelve", "press", "--until", "2020-01-01"], "is over"),
        (["shelve", "pres", "--for", "1h"], "neither an asset (press) nor an event"),
        (["ack", "gw:m:press:9"], "there is no event 'gw:m:press:9'"),
        (["comment", "gw:m:press:9", "a\x00b"], "printed characters"),
    ],
    ids=lambda v: " ".join(v).replace("\x00", "NUL")[:30] if isinstance(v, list) else "",
)
def test_what_cannot_be_done_is_reported(ran: Press, words: list[str], why: str) -> None:
    done = ran.event(*words)
    assert done.exit_code == 1 and why in done.stderr, done.stderr
