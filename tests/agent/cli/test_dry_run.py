# SPDX-License-Identifier: Apache-2.0
"""`start --once` shows what comes of the sources, sends and stores nothing, and runs beside the agent."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.cli.dry_run import value_range
from fedge_agent.protocols.csv.faults import Faults
from fedge_agent.protocols.csv.form import Form
from fedge_agent.protocols.csv.tail import Tail
from fedge_agent.sources.files_position import LAST_BYTES, rewind
from fedge_agent.sources.images import ImagesConfig, ImagesSource
from fedge_agent.sources.mqtt import MqttConfig, MqttSource
from fedge_agent.sources.sparkplug import SparkplugConfig, SparkplugSource
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway
from support.programs import BIN, ENV
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S

CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(20, 10, 5), ("mean", "std"))


class Replay(Gateway):
    """An agent that replays a CSV file."""

    def __init__(self, folder: Path) -> None:
        rng = random.Random(0)
        table = "".join(f"{rng.gauss(20, 1):.3f},{rng.gauss(3, 0.1):.3f}\n" for _ in range(1000))
        (folder / "data.csv").write_text("temp,press\n" + table)
        super().__init__(
            folder,
            "pump-1",
            """
[source.csv]
type = "files"
path = "data.csv"
rate_hz = 20.0
at_end = "repeat"
[model.m]
file = "model.onnx"
training = { min_samples = 20 }
[asset.pump-1]
model = "m"
baseline = "10s"
channels.temp = { source = "csv", tag = "temp" }
channels.press = { source = "csv", tag = "press" }
when = { score_above = 1e-9, for_windows = 1 }
"""
            + JOURNAL,
            zoo.autoencoder(CARD, 4, (3, 2)),
        )

    def once(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `start --once` prints."""
        command = [str(BIN / "fedge-agent"), "start", *words, "--config", str(self.folder / "gw.toml")]
        return subprocess.run(command, capture_output=True, text=True, env=ENV, check=False, timeout=LONGEST_S)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Replay]:
    made = Replay(tmp_path)
    yield made
    assert made.end() in ([], [0])


def write_followed(path: Path, rows: int) -> None:
    """A file with times, 20 rows a second."""
    rng = random.Random(0)
    lines = (f"{1_760_000_000 + i / 20:.2f},{rng.gauss(20, 1):.3f},{rng.gauss(3, 0.1):.3f}\n" for i in range(rows))
    path.write_text("time,temp,press\n" + "".join(lines))


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file but those that the agent writes all the time."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_before_the_first_start_it_shows_windows_and_leaves_nothing(gateway: Replay, tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = gateway.once("--once")
    assert done.returncode == 0, done.stderr
    for words in (
        "asset pump-1: a window of 10 samples, 0 % missing",
        "  temp: ",
        "  features: temp mean ",
        "source csv: ",
        "  press: ",
        "asset pump-1: no decision yet: waiting for the baseline",
        "nothing was sent, and nothing stored",
    ):
        assert words in done.stdout, done.stdout
    assert contents(tmp_path) == before and "Traceback" not in done.stderr


def test_beside_a_running_agent_it_decides_with_what_was_learnt_and_raises_nothing(gateway: Replay) -> None:
    gateway.start("gw")
    gateway.wait(lambda: gateway.asset()["condition"]["state"] == "deciding", "decisions")
    gateway.wait(lambda: gateway.status("gw")["outputs"]["journal"]["delivered"], "the event of the agent itself")
    events = gateway.status("gw")["outputs"]["journal"]
    done = gateway.once("--dry-run", "--for", "2")
    assert done.returncode == 0 and "  decision: " in done.stdout, done.stdout + done.stderr
    after = gateway.status("gw")
    assert after["outputs"]["journal"]["delivered"] == events["delivered"] and not any(after["lost"].values())


@pytest.mark.parametrize("runs", [True, False])
def test_of_a_file_that_was_read_to_its_end_it_shows_the_last_rows_and_misses_nothing(
    gateway: Replay, runs: bool
) -> None:
    write_followed(gateway.folder / "data.csv", 6000)
    config = gateway.config.read_text().replace(
        'at_end = "repeat"', 'tail = true\nstart = "begin"\ntime_column = "time"'
    )
    gateway.config.write_text(config.replace("rate_hz = 20.0\n", ""))
    gateway.start("gw")
    gateway.wait(lambda: gateway.status("gw")["sources"]["csv"]["readings"] == 12_000, "all rows", 40)
    gateway.wait((gateway.folder / "gw" / "sources" / "csv" / "position.json").exists, "the position")
    if not runs:
        gateway.end()
    done = gateway.once("--once")
    assert done.returncode == 0 and "asset pump-1: a window of 10 samples, 0 % missing" in done.stdout, done.stdout
    readings = int(done.stdout.partition("source csv: ")[2].split()[0])
    assert 1000 < readings < 12_000
    assert "lost" not in done.stderr and "ERROR" not in done.stderr and "MES" not in done.stdout, done.stderr
    assert not list((gateway.folder / "gw").rglob("*damaged*"))


@pytest.mark.parametrize("length", [10, 3 * LAST_BYTES])
def test_a_position_goes_back_by_whole_lines(tmp_path: Path, length: int) -> None:
    path, position = tmp_path / "d.csv", tmp_path / "position.json"
    path.write_text("temp\n" + "".join(f"row {i}\n" for i in range(1000, 1000 + length // 9 + 1)))
    tail = Tail(path, position, False, Form(), Faults())
    whole: list[str] = []
    while found := tail.lines():
        whole += found
    tail.save()
    tail.close()
    rewind(position, path)
    again = Tail(path, position, False, Form(), Faults())
    seen: list[str] = []
    while found := again.lines():
        seen += found
    assert again.at.header == "temp" and seen == whole[-len(seen) :]
    assert min(LAST_BYTES, length) - 10 <= sum(len(line) + 1 for line in seen) <= LAST_BYTES
    again.close()


def test_an_asset_without_a_window_fails_and_says_why(gateway: Replay) -> None:
    (gateway.folder / "data.csv").write_text("temp,press\n" + "20,n/a\n" * 1000)
    done = gateway.once("--once", "--for", "3")
    assert done.returncode == 1 and "press: " in done.stdout and "last 'n/a'" in done.stdout


def test_mqtt_and_sparkplug_take_no_name_that_the_agent_has() -> None:
    mqtt = MqttSource("m", MqttConfig(url="mqtt://127.0.0.1:9", client_id="gw"))
    sparkplug = SparkplugSource("s", SparkplugConfig(url="mqtt://127.0.0.1:9", client_id="gw", host_id="plant"))
    mqtt.leave_no_trace()
    sparkplug.leave_no_trace()
    assert mqtt._config.client_id == sparkplug._config.client_id == sparkplug._config.host_id == ""


def test_pictures_stay_where_they_are(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "broken.png").write_bytes(b"no picture")
    source = ImagesSource("i", ImagesConfig(path=pictures, after="delete"))
    source.leave_no_trace()
    host = RecordingHost(tmp_path)
    thread = threading.Thread(target=source.run, args=(["*.png"], host))
    thread.start()
    host.wait(lambda: "rejected" in host.problems)
    host.stop.set()
    thread.join(LONGEST_S)
    assert [p.name for p in pictures.iterdir()] == ["broken.png"] and "it stays where it is" in host.problems[
        "rejected"
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.7e9, 1.7e9 + 3], "1700000000 to 1700000003"),
        ([1_700_000_123.0], "1700000123 to 1700000123"),
        ([1e6 + 0.25, 1e6 + 0.5], "1000000.25 to 1000000.5"),
        ([0.123456, 12.5], "0.1235 to 12.5"),
        ([float("nan"), 4.0], "4 to 4"),
        ([0.0, 0.0], "0 to 0"),
        ([float("nan")], "no value"),
    ],
)
def test_ranges_show_what_changes(values: list[float], expected: str) -> None:
    assert value_range(np.array(values)) == expected
