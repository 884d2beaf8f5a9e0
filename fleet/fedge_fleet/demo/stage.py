# SPDX-License-Identifier: Apache-2.0
"""The demo's processes, started as a user starts them: through the command lines, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fedge_models.graph.trainable import TrainableGraph

from ..data.recordings import write_track
from ..machines import tryton
from ..machines.local import BIN, broker_config, environment, free_port, get, program
from ..machines.processes import Processes, run
from .scenario import Scenario

FEDERATION = "demo"
READY_S = 40.0
NODE_MODULES = Path(__file__).parents[3] / ".counterparts/node/node_modules"  # of a checkout, after `make counterparts`


class Stage:
    """An aggregator, and for each site an agent and its PLC; a MES for all; their files."""

    def __init__(
        self, scenario: Scenario, folder: Path, say: Callable[[str], None], real_mes: Path | None = None
    ) -> None:
        self.scenario, self.folder, self.say = scenario, folder, say
        self._tryton = real_mes  # its virtual environment; None: the stand-in
        self.env = environment()
        self.processes = Processes(folder / "logs", self.env)
        self.graph = TrainableGraph.load(scenario.model)
        self.agents: dict[str, str] = {}  # site -> host:port of the status page
        self._mes_address = ""
        self.go = folder / "go"
        self.over_mqtt: str | None = None  # the site whose machine is read over MQTT

    def start(self) -> None:
        """Start everything except the machines."""
        scenario, folder = self.scenario, self.folder
        self.say(f"fedge demo: {scenario.name}; {len(scenario.tracks)} sites, {len(self.graph.params)} parameters")
        self._aggregator()
        self._machines()
        self._mes()
        with ThreadPoolExecutor(len(scenario.tracks)) as pool:
            list(pool.map(self._agent, scenario.tracks))  # raises what one of them raised
        for site in scenario.tracks:
            config = folder / f"{site}.toml"
            self.processes.start(f"agent-{site}", [BIN / "fedge-agent", "start", "--config", config])
        for site in scenario.tracks:
            self.agents[site] = self._wait_for(folder / site / "status.addr")
        self._until(self._all_connected, "agents connected to their PLCs")

    def orders(self) -> list[dict[str, Any]]:
        """Return the work orders in the MES. Raises StopError."""
        if self._tryton:
            return tryton.orders(self.folder / "tryton")
        found: list[dict[str, Any]] = get(self._mes_address, "/work-orders")
        return found

    # parts of start

    def _mes(self) -> None:
        folder = self.folder
        if self._tryton is None:
            self._fleet("mes", "mes", "--store", folder / "mes.sqlite", "--ready", folder / "mes.port", "--drop", "0.4")
            self._mes_address = "127.0.0.1:" + self._wait_for(folder / "mes.port")
            return
        self.say("  MES: Tryton; its database is made, which takes half a minute")
        tryton.make_database(self._tryton, folder / "tryton")
        port = free_port()
        config = tryton.configure(folder / "tryton", port)
        self.processes.start("mes", tryton.command(self._tryton, config))
        self._mes_address = f"127.0.0.1:{port}"
        self._until(lambda: tryton.answers(port), "Tryton to serve")

    def _mes_table(self) -> str:
        if self._tryton:
            return tryton.output(self.folder / "tryton", int(self._mes_address.rpartition(":")[2]))
        return f"""[output.mes]
type = "mes"
url = "http://{self._mes_address}/work-orders"
clear = {{ url = "/{{key}}/cleared", body = {{ reference = "{{key}}", cleared_at = "{{time}}" }} }}
"""

    def _machines(self) -> None:
        """The first speaks OPC UA by node-opcua and the last MQTT, where node-opcua and mosquitto are installed."""
        *_, last = self.scenario.tracks
        first, broker = next(iter(self.scenario.tracks)), program("mosquitto")
        if broker:
            port = self._broker(broker)
        for site, track in self.scenario.tracks.items():
            write_track(self.folder / f"{site}.npz", track)
            how: tuple[str | Path, ...] = ("plc",)
            spoken = "OPC UA"
            if site == last and broker:
                self.over_mqtt, spoken = site, "MQTT (mosquitto)"
                how = ("mqtt-machine", "--broker", f"127.0.0.1:{port}", "--topic", f"plant/{site}")
            elif site == first and NODE_MODULES.exists() and program("node"):
                how, spoken = ("plc", "--node", NODE_MODULES), "OPC UA (node-opcua)"
            ready = ("--track", self.folder / f"{site}.npz", "--ready", self.folder / f"{site}.port", "--go", self.go)
            self._fleet(f"plc-{site}", *how, *ready)
            self.say(f"  machine of {site}: {spoken}")

    def _broker(self, program: str) -> int:
        port = free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text(broker_config(port))
        self.processes.start("mosquitto", [program, "-c", config])
        return port

    def _aggregator(self) -> None:
        folder = self.folder
        (folder / "model.onnx").write_bytes(self.scenario.model)
        (folder / "aggregator.toml").write_text(
            f'[aggregator]\nstate = "{folder}/aggregator"\naddresses = ["127.0.0.1"]\n'
            'listen = "127.0.0.1:0"\noperator = "127.0.0.1:0"\n'
            f'[federation.{FEDERATION}]\nrule = {{ name = "fedavg" }}\nquorum = 3\ndeadline = "4s"\n'
        )
        config: list[str | Path] = ["--config", folder / "aggregator.toml"]
        run([BIN / "fedge-aggregator", "model", "add", FEDERATION, folder / "model.onnx", *config], self.env)
        self.processes.start("aggregator", [BIN / "fedge-aggregator", "start", *config])
        self._wait_for(folder / "aggregator" / "listen.addr")

    def _agent(self, site: str) -> None:
        config = self.folder / f"{site}.toml"
        config.write_text(self._agent_config(site))
        invite: list[str | Path] = [BIN / "fedge-aggregator", "invite", site, "--federation", FEDERATION]
        invitation = run([*invite, "--config", self.folder / "aggregator.toml"], self.env).strip()
        run([BIN / "fedge-agent", "join", invitation, "--config", config], self.env)

    def _agent_config(self, site: str) -> str:
        track = self.scenario.tracks[site]
        wave = f", waveform_hz = {track.rate_hz}" if track.kind == "waveform" else ""
        port = self._wait_for(self.folder / f"{site}.port")
        if site == self.over_mqtt:
            tag, url = f"plant/{site}#/", f"mqtt://127.0.0.1:{port}"
            source = f'type = "mqtt"\nurl = "{url}"\nclient_id = "fedge-{site}"\ntime = "/time"'
        else:
            tag, source = "ns=2;s=", f'type = "opcua"\nurl = "opc.tcp://127.0.0.1:{port}/"'
        channels = "".join(
            f'channels.{name} = {{ source = "plc", tag = "{tag}{name}"{wave} }}\n' for name, _ in track.channels
        )
        return f"""
[agent]
name = "{site}"
state = "{self.folder / site}"

[source.plc]
{source}

[model.{FEDERATION}]
poll = "500ms"
training = {{ interval = "1s", min_samples = 24, drift_correction = 1.0 }}

[asset.machine]
baseline = "10s"
model = "{FEDERATION}"
{channels}label = {{ source = "plc", tag = "{tag}label" }}
window = {{ max_hold = {2 * track.block / track.rate_hz + 0.1}, lateness = {2 * track.block / track.rate_hz} }}
when = {{ for_windows = 3, min_gap = "2s" }}

{self._mes_table()}"""

    def _fleet(self, name: str, *command: str | Path) -> None:
        self.processes.start(name, [BIN / "fedge-fleet", *command])

    def _wait_for(self, path: Path) -> str:
        return self.processes.text_of(path, READY_S)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        self.processes.wait_until(done, what, READY_S)

    def _all_connected(self) -> bool:
        for address in self.agents.values():
            status = get(address, "/status")
            if status["sources"]["plc"]["readings"] == 0 or status["models"][FEDERATION]["head"] is None:
                return False
        return True
