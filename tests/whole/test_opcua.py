# SPDX-License-Identifier: Apache-2.0
"""A gateway with OPC UA on both sides: a secured node-opcua in, its decisions written back and served by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.node_opcua import NodeServer
from support.opcua_source import RunningSource
from support.programs import Programs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

HZ = 20.0
CARD = Card("anomaly", (Channel("current"), Channel("rms")), WindowSpec(HZ, 10, 5), ("mean", "std"))


@pytest.fixture
def plc(tmp_path: Path) -> Iterator[NodeServer]:
    made = NodeServer(tmp_path / "pki", accept=True, users={"op": "secret"})
    made.do("add", name="m/Current", value=1)
    made.do("add", name="M", value={"value": 1.0, "axis": {"x": 1, "y": 2}, "name": "n"})
    made.do("add", name="m/Score", value=-1)
    made.do("add", name="m/Alert", value=False)
    yield made
    made.stop()


def test_decisions_of_a_secured_plc_come_back_to_it_and_are_served(plc: NodeServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "model.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString())
    server = f'url = "{plc.url}"\nsecurity = "Aes256Sha256RsaPss/SignAndEncrypt"\n'
    user = 'username = "op"\npassword_file = "password"\n'
    (tmp_path / "gw.toml").write_text(
        f"""
[agent]
name = "gw"
state = "gw"
[source.plc]
type = "opcua"
publishing_interval = "50ms"
{server}{user}
[model.f]
file = "model.onnx"
training = {{ min_samples = 20 }}
[asset.m]
baseline = 0
model = "f"
channels.current = {{ source = "plc", tag = "Plant/m/Curr*" }}
channels.rms = {{ source = "plc", tag = "nsu=urn:test:plc;s=M#axis.x" }}
window.max_hold = "1s"
when = {{ score_above = 1e-9, for_windows = 1, min_gap = 0 }}
[output.back]
type = "opcua"
{server}{user}
events = {{ "Plant/{{asset}}/Alert" = "{{alert}}" }}
decisions = {{ "Plant/{{asset}}/Score" = "{{score}}" }}
[output.scada]
type = "opcua-server"
listen = "127.0.0.1:0"
"""
    )
    programs = Programs(tmp_path)
    for name in ("plc", "back"):
        programs.run("fedge-agent", "trust", name, "--yes", "--config", tmp_path / "gw.toml")
    assert "ok   source plc" in programs.run("fedge-agent", "check", "--config", tmp_path / "gw.toml")
    stop, rng = threading.Event(), np.random.default_rng(0)

    def machine() -> None:
        while not stop.wait(1 / HZ):
            plc.do("write", name="m/Current", value=float(rng.normal()))
            plc.do("write", name="M", value={"value": 1.0, "axis": {"x": float(rng.normal()), "y": 2}, "name": "n"})

    feeding = threading.Thread(target=machine)
    feeding.start()
    try:
        programs.start("gw")
        programs.wait(lambda: (programs.status("gw")["assets"]["m"]["last"] or {}).get("score", 0) > 0, "a score")
        programs.wait(lambda: programs.status("gw")["outputs"]["back"]["delivered"] > 0, "an event written")
        status = programs.status("gw")
        with RunningSource(status["outputs"]["scada"]["listens"], ["fedge/m/Score", "fedge/m/Alert"]) as scada:
            scada.host.wait(lambda: len(scada.host.values("fedge/m/Score")) > 3)
    finally:
        stop.set()
        feeding.join()
    assert scada.host.values("fedge/m/Alert")[-1] == 1.0
    assert plc.do("read", name="m/Score") > 0 and plc.do("read", name="m/Alert") is True
    assert not status["sources"]["plc"]["problems"] and status["outputs"]["back"]["error"] is None
    programs.end()
