# SPDX-License-Identifier: Apache-2.0
"""What a plant does to a gateway: a full disk, a PLC that hangs, restarts, sends NaN or sets its clock.

The agent is a real process; the PLC is a real OPC UA server in this one. Both outlast the tests, as they do in a plant:
each test begins with a gateway that decides, and looks at what changed since.
"""

from __future__ import annotations

import contextlib
import math
import re
import resource
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.asyncua_plc import Plc
from support.gateway import Gateway
from support.waiting import LONGEST_S

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HZ = 50.0
CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(HZ, 10, 5), ("mean", "std"))


class Machine:
    """Writes two tags at HZ: noise, or whatever the test says, until stopped."""

    def __init__(self, plc: Plc) -> None:
        self.plc, self.level, self.shift = plc, 0.0, timedelta()
        self._rng, self._stop = np.random.default_rng(0), threading.Event()
        for name in "ab":
            plc.add(name)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1 / HZ):
            now = datetime.now(timezone.utc) + self.shift
            with contextlib.suppress(TimeoutError):  # a PLC that hangs
                for name in "ab":
                    self.plc.write(name, self.level + self._rng.normal(), stamp=now)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(LONGEST_S)
        self.plc.stop()


class Plant(Gateway):
    """One agent with one machine, no aggregator."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(Plc())
        self.port = self.machine.plc.port
        super().__init__(
            folder,
            "m",
            f"""
[source.plc]
type = "opcua"
url = "opc.tcp://127.0.0.1:{self.port}/"
publishing_interval = "50ms"
max_age = "2s"
timeout = "2s"
[model.f]
file = "model.onnx"
training = {{ min_samples = 20 }}
[asset.m]
baseline = 0
model = "f"
channels.a = {{ source = "plc", tag = "ns=2;s=a" }}
channels.b = {{ source = "plc", tag = "ns=2;s=b" }}
when = {{ for_windows = 2, min_gap = "0s" }}
[output.events]
type = "log"
""",
            zoo.autoencoder(CARD, 4, (3, 2)),
        )
        self.start("gw")
        self.wait(lambda: self.decisions() > 5, "decisions")

    def counter(self, name: str) -> int:
        return int(self.asset()["counters"][name])

    def gaps(self) -> int:
        return self.counter("gaps") + int(self.asset()["windows_with_gaps"])

    def goes_on(self) -> None:
        """Return when it has decided on fresh windows."""
        before = self.decisions()
        self.wait(lambda: self.decisions() > before + 10, "decisions to go on")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    made = Plant(folder)
    yield made
    codes = made.end()
    made.machine.stop()
    assert codes == [0], (folder / "gw.log").read_text()[-2000:]


@pytest.fixture
def gateway(running: Plant) -> Plant:
    """It decides on a machine that is well."""
    running.machine.level, running.machine.shift = 0.0, timedelta()
    running.goes_on()
    return running


def test_full_disk_stops_no_decision_and_no_event_and_costs_no_sample(gateway: Plant) -> None:
    gateway.wait(lambda: gateway.status("gw")["models"]["f"]["threshold"], "a threshold")
    pid = gateway.running["gw"].pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))  # from here no file takes another byte
    gateway.machine.level = 50.0
    gateway.wait(lambda: gateway.status("gw")["outputs"]["events"]["delivered"], "an event from memory")
    gateway.wait(lambda: gateway.status("gw")["storage"]["samples_in_memory"], "samples that cannot be stored")
    gateway.goes_on()
    storage = gateway.status("gw")["storage"]
    assert storage["in_memory"] and {"spool", "samples"} <= storage["problems"].keys(), storage
    text = gateway.told("gw")
    assert "events are delivered from memory" in text and "samples have been in memory only" in text
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    gateway.wait(lambda: not gateway.status("gw")["storage"]["problems"], "the disk to be used again")
    raised = gateway.asset()["events"]
    gateway.wait(lambda: gateway.status("gw")["outputs"]["events"]["delivered"] >= raised, "all")
    assert gateway.status("gw")["storage"]["samples_in_memory"] is None
    lost = gateway.status("gw")["lost"]
    assert lost["events"] == lost["samples"] == 0 and not gateway.status("gw")["unwritten_events"]["waiting"]


def test_plc_that_hangs_is_given_up_and_used_again(gateway: Plant) -> None:
    awake, gaps = threading.Event(), gateway.gaps()
    gateway.machine.plc.block(awake)
    printed = re.compile("stopped answering|no value and no heartbeat")  # whichever of the two times is over first
    gateway.wait(lambda: printed.search(str(gateway.status("gw")["sources"]["plc"])), "the loss")
    awake.set()
    gateway.goes_on()
    assert gateway.gaps() > gaps
    gateway.wait(lambda: not gateway.status("gw")["sources"]["plc"]["problems"], "the problem to be withdrawn")


def test_plc_that_restarts_is_used_again_and_the_gap_is_marked(gateway: Plant) -> None:
    gaps, reconnects = gateway.gaps(), gateway.status("gw")["sources"]["plc"]["reconnects"]
    gateway.machine.stop()
    gateway.wait(lambda: gateway.status("gw")["sources"]["plc"]["problems"], "the loss to be stated")
    gateway.wait(lambda: gateway.status("gw")["sources"]["plc"]["reconnects"] >= reconnects + 2, "failed tries")
    gateway.machine = Machine(Plc(gateway.port))
    gateway.goes_on()  # within ten seconds, on an idle machine: test_opcua_faults measures it
    assert gateway.gaps() > gaps


def test_nan_is_counted_and_decided_around(gateway: Plant) -> None:
    lost, windows = gateway.status("gw")["lost"], gateway.asset()["windows_with_gaps"]
    gateway.machine.level = math.nan
    gateway.wait(lambda: gateway.counter("not_finite") > 20, "NaN readings")
    gateway.wait(lambda: gateway.asset()["windows_with_gaps"] > windows, "a window with gaps")
    gateway.machine.level = 0.0
    gateway.goes_on()
    last = gateway.asset()["last"]
    assert math.isfinite(last["score"]) and gateway.status("gw")["lost"] == lost


@pytest.mark.parametrize("days", [-3, 3])
def test_plc_whose_clock_jumps_away_from_the_servers_is_used_with_the_servers_time(gateway: Plant, days: int) -> None:
    before, jumps = gateway.asset()["last"]["time_ns"], gateway.counter("clock_jumps")
    gateway.machine.shift = timedelta(days=days)
    gateway.wait(lambda: "source time" in gateway.status("gw")["sources"]["plc"]["notes"], "the note")
    gateway.goes_on()
    jumped = (gateway.asset()["last"]["time_ns"] - before) / 1e9 / 86400
    assert jumped == pytest.approx(0, abs=0.01) and gateway.counter("clock_jumps") == jumps
    assert "the server's clock" in gateway.status("gw")["sources"]["plc"]["notes"]["source time"]
    gateway.machine.shift = timedelta()
    gateway.goes_on()
