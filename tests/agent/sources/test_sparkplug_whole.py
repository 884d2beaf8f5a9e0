# SPDX-License-Identifier: Apache-2.0
"""The agent between two programs of others: it reads npm's edge node, and publishes to npm's host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.mosquitto import Mosquitto
from support.npm_sparkplug import NpmSparkplug
from support.programs import Programs

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(50.0, 10, 2), ("mean", "std"))


def configuration(folder: Path, broker: Mosquitto) -> str:
    connection = f"""
type = "sparkplug"
url = "mqtt://127.0.0.1:{broker.port}"
username = "gw"
password_file = "{broker.folder / "gw.password"}"
"""
    return f"""
[agent]
name = "gw"
state = "{folder / "gw"}"
[source.line]{connection}
[model.f]
file = "{folder / "model.onnx"}"
training = {{ min_samples = 20, new_samples = 1000000 }}
[asset.m]
baseline = 0
model = "f"
channels.a = {{ source = "line", tag = "g/js/press/a" }}
channels.b = {{ source = "line", tag = "g/js//b" }}
[output.scada]{connection}
group = "fedge"
node = "gw"
"""


def metric(name: str, value: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "type": "Double", "timestamp": time.time_ns() // 1_000_000, **more}


def test_from_an_edge_node_to_a_host_through_the_model(tmp_path: Path) -> None:
    broker, agents = Mosquitto(tmp_path / "broker"), Programs(tmp_path)
    (tmp_path / "model.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString())
    (tmp_path / "gw.toml").write_text(configuration(tmp_path, broker))

    def asset() -> dict[str, Any]:
        state: dict[str, Any] = agents.status("gw")["assets"]["m"]
        return state

    def windows() -> int:
        return int(asset()["counters"]["windows"])

    try:
        with NpmSparkplug(broker, "node", "g", "js") as node, NpmSparkplug(broker, "host") as host:
            node.do(do="birth", born={"node": [metric("b", 1.0)], "devices": {"press": [metric("a", 2.0, alias=5)]}})
            agents.start("gw")
            birth = host.next_event(lambda e: e.get("topic") == "spBv1.0/fedge/DBIRTH/gw/m")
            first = {m["name"]: m["value"] for m in birth["payload"]["metrics"]}
            assert first["model"] == "f" and first["missing"] == 0 and first["alert"] is False
            before = windows()
            agents.wait(lambda: windows() >= before + 4, "windows of values that do not change")
            assert asset()["last"]["missing"] == 0
            node.do(do="ddata", device="press", metrics=[metric("a", 50.0, alias=5)])
            score = next(m["alias"] for m in birth["payload"]["metrics"] if m["name"] == "score")
            host.next_event(
                lambda e: (
                    e.get("topic") == "spBv1.0/fedge/DDATA/gw/m"
                    and score in [m["alias"] for m in e["payload"]["metrics"]]
                )
            )

            node.kill()
            agents.wait(lambda: "dead" in agents.status("gw")["sources"]["line"]["problems"].get("g/js", ""), "death")
            assert agents.status("gw")["sources"]["line"]["bad"] == 2
            assert agents.end() == [0]
            assert host.next_event(lambda e: e.get("topic") == "spBv1.0/fedge/NDEATH/gw")["payload"]["metrics"]
    finally:
        agents.end()
        broker.stop()
