# SPDX-License-Identifier: Apache-2.0
"""Late labels through the real agent and its command line: by hand, by part from a station's file, over a restart."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import Gateway
from support.mosquitto import Mosquitto

HZ, LENGTH, HOP, PART = 100.0, 10, 5, 130  # a part every 1.3 s
QA = {"verdict": "result", "part": "serial"}
CARD = Card("classify", (Channel("a"),), WindowSpec(HZ, LENGTH, HOP), ("mean", "std"), ("ok", "worn", "broken"), "ok")


class Shop(Gateway):
    """One agent that replays a recording with parts; nothing is labelled yet."""

    def __init__(self, folder: Path) -> None:
        rows = [f"{math.sin(i / 7):.4f},P{i // PART}" for i in range(100_000)]
        (folder / "machine.csv").write_text("\n".join(["a,part", *rows]))
        self.station = folder / "station.csv"
        self.station.write_text("part;result\n")
        super().__init__(
            folder,
            "press-1",
            f"""
[source.line]
type = "files"
path = "machine.csv"
rate_hz = {HZ}
[model.m]
file = "model.onnx"
training = {{ min_samples = 10, holdout = 0 }}
[template.press]
model = "m"
channels.a = {{ source = "line", tag = "a" }}
label = {{ map = {{ NOK = "broken" }}, late = "1h" }}
context = {{ part = {{ source = "line", tag = "part" }} }}
[template.press.inspection]
path = "station.csv"
verdict_column = "result"
part_column = "part"
time_column = ""
[asset.press-1]
template = "press"
""",
            zoo.mlp(CARD, 2, (4,)),
        )

    def stored(self) -> dict[str, int]:
        """Samples by label."""
        found: dict[str, int] = self.status("gw")["models"]["m"]["samples"]
        return found

    def labels(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status("gw")["labels"]["press-1"]
        return found

    def part(self) -> int:
        """The number of the part of the newest decision; -1: none yet."""
        decisions = self.page("gw", "/decisions")["press-1"]
        return int(decisions[-1]["context"]["part"][1:]) if decisions else -1

    def wait_for_part(self, number: int) -> None:
        self.wait(lambda: self.part() >= number, f"part {number}")

    def label(self, *words: str) -> Result:
        return self.call("label", "press-1", *words)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.end()


def test_labels_by_part_and_by_hand_while_it_runs_and_while_it_does_not(shop: Shop) -> None:
    shop.start("gw")
    shop.wait(lambda: shop.stored().get("-", 0) > 20, "windows that wait for their label")
    shop.wait(lambda: shop.part() >= 0, "decisions")
    first = shop.part() + 1
    shop.wait_for_part(first + 1)
    with shop.station.open("a") as file:
        file.write(f"P{first};NOK\nP{first + 2};worn\nP{first};maybe\n")
    shop.wait(lambda: shop.stored().get("broken", 0) > 5, "the verdict on a part that was made")
    shop.wait(lambda: shop.stored().get("worn", 0) > 5, "the verdict on a part that came after its verdict")
    assert shop.labels()["unknown"] == 1 and "'maybe'" in shop.labels()["examples"]["unknown"]
    broken, now = shop.stored()["broken"], time.time()
    done = shop.label("ok", "--from", str(now - 600), "--to", str(now + 600))
    assert done.exit_code == 0 and "stored" in done.output, done.output
    shop.wait(
        lambda: not shop.stored().get("broken") and shop.stored().get("ok", 0) > broken, "the word by hand, which wins"
    )
    assert shop.labels()["contradictory"] >= broken
    parts = [d["context"]["part"] for d in shop.page("gw", "/decisions")["press-1"]]
    assert all(part.startswith("P") for part in parts)
    assert "contradictory: hand says 'ok'" in shop.told("gw")
    shop.kill("gw")
    assert " windows\n" in shop.label("worn", "--from", str(now - 600), "--to", str(now + 600)).output
    shop.start("gw")
    shop.wait(lambda: not shop.stored().get("ok") and shop.stored().get("worn", 0) > broken, "the later word")
    assert "fedge_agent_relabelled_total" in shop.text("gw", "/metrics")


def test_verdicts_over_mqtt_find_their_parts(tmp_path: Path) -> None:
    broker, shop = Mosquitto(tmp_path / "broker"), Shop(tmp_path)
    source = {"type": "mqtt", "client_id": "gw", **broker.keys}
    text = shop.config.read_text().replace("time_column", "# time_column").replace('path = "station.csv"', "")
    look = "\n".join(f'{k} = {{ source = "qa", tag = "plant/test#/{v}" }}' for k, v in QA.items())
    text = text.replace("verdict_column", f"{look}\n# verdict_column").replace("part_column", "# part_column")
    shop.config.write_text("\n".join([text, "[source.qa]", *(f'{k} = "{v}"' for k, v in source.items())]))
    shop.start("gw")
    try:
        shop.wait(lambda: not shop.status("gw")["sources"]["qa"]["problems"], "the broker")
        with closing(Connection(Broker(**broker.keys), lambda _: None)) as peer:
            peer.open()
            shop.wait(lambda: shop.part() >= 0, "decisions")
            bad, worn = f"P{shop.part() + 1}", f"P{shop.part() + 2}"
            shop.wait_for_part(int(worn[1:]) + 1)
            for body in (
                {"serial": bad, "result": "NOK"},
                {"result": "worn"},
                "{",
                {"serial": worn, "result": "worn"},
            ):
                peer.wait([peer.publish("plant/test", (body if body == "{" else json.dumps(body)).encode())])
        shop.wait(lambda: shop.stored().get("broken", 0) > 5 and shop.stored().get("worn", 0) > 5, "both verdicts")
        assert shop.labels()["malformed"] == 1 and "no part id" in shop.labels()["examples"]["malformed"]
        assert max(shop.stored()["worn"], shop.stored()["broken"]) <= PART // HOP
    finally:
        shop.end()
        broker.stop()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["worn"], "give --from (and --to), --at (and --tolerance), or --part"),
        (["worn", "--at", "now"], "--at 'now': expected a time such as"),
        (["worn", "--at", "2126-01-01"], "--at '2126-01-01': expected a time such as"),
        (["worn", "--at", f"{date.today().year + 1}-12-31"], "lies more than a day in the future"),
        (["worn", "--at", "2026-01-01", "--tolerance", "soon"], "--tolerance: expected a duration"),
        (["worn", "--at", "2026-01-01", "--from", "2026-01-01"], "not both"),
        (["worn", "--from", "2026-01-02", "--to", "2026-01-01"], "--to '2026-01-01' is before --from"),
        (["rusty", "--part", "A1"], "press-1 has no label 'rusty': expected one of ok, worn, broken"),
        (["worn", "--part", "A" * 500], "expected 1 to 128 printed characters"),
        (["w\x00rn", "--part", "A1"], "printed characters"),
        (["worn", "--part", "A1"], "the agent has not yet run"),
    ],
    ids=lambda v: " ".join(v)[:30] if isinstance(v, list) else "",
)
def test_what_cannot_be_a_label_is_reported(shop: Shop, words: list[str], why: str) -> None:
    done = shop.label(*words)
    assert done.exit_code == 1 and why in done.stderr, done.stderr


def test_another_machine_is_named(shop: Shop) -> None:
    done = shop.call("label", "pres-1", "worn", "--part", "A1")
    assert done.exit_code == 1 and "did you mean 'press-1'?" in done.stderr
