# SPDX-License-Identifier: Apache-2.0
"""The demo's stage: physics that shows where it should, splits that do not leak, a PLC that replays exactly."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Batch, Quality, Reading
from fedge_agent.windows.assembler import Assembler
from fedge_fleet import report
from fedge_fleet.data import bearing_physics, member, recordings, site_data
from fedge_fleet.data.recordings import Track, read_track, write_track
from fedge_fleet.data.table_file import TableFile
from fedge_fleet.demo import scenario
from fedge_fleet.machines.processes import Processes
from fedge_fleet.simulate import baselines
from fedge_models.errors import ConfigError, StopError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from support.paths import recorded_data
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S, until

BIN = Path(sys.executable).parent


def need(name: str) -> Path:
    return recorded_data() / name


def envelope_peak(x: np.ndarray, low: float, high: float) -> float:
    """Frequency (Hz) of the highest line of the squared-envelope spectrum between low and high."""
    analytic = np.fft.fft(x - x.mean())
    analytic[len(x) // 2 :] = 0  # Hilbert transform: no negative frequencies
    analytic[: int(300 * len(x) / bearing_physics.RATE_HZ)] = (
        0  # high-pass: rotor lines are not the envelope's business
    )
    envelope = np.abs(np.fft.ifft(2 * analytic)) ** 2
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    f = np.fft.rfftfreq(len(x), 1 / bearing_physics.RATE_HZ)
    chosen = (f >= low) & (f <= high)
    return float(f[chosen][spectrum[chosen].argmax()])


@pytest.mark.parametrize("machine", bearing_physics.SITES, ids=lambda m: m.name)
def test_outer_race_defect_shows_at_its_ball_pass_frequency(machine: bearing_physics.Machine) -> None:
    x = bearing_physics.run(machine, 1, seed=1, seconds=20)[0]
    assert envelope_peak(x, 0.8 * machine.bpfo_hz, 1.2 * machine.bpfo_hz) == pytest.approx(machine.bpfo_hz, rel=0.03)


def test_inner_race_defect_is_modulated_by_the_shaft() -> None:
    machine = bearing_physics.SITES[0]
    x = bearing_physics.run(machine, 2, seed=1, seconds=20)[0]
    assert envelope_peak(x, 0.6 * machine.shaft_hz, 1.4 * machine.shaft_hz) == pytest.approx(machine.shaft_hz, rel=0.05)


def test_simulation_is_deterministic() -> None:
    a, b = (bearing_physics.run(bearing_physics.SITES[0], 1, seed=3) for _ in range(2))
    assert (a == b).all() and a.shape == (4, 8192) and np.isfinite(a).all()


TABLES = {
    "NUL in the header": (b"a\0,b\n1,2\n", None),
    "no such column": (b"b\n2\n", "no column 'a'"),
    "NUL in a cell": (b"a,b\n1\0,2\n", None),
    "huge cell": (b"a,b\n" + b"1" * 200_000 + b",2\n", "cannot be read"),
    "carriage return in a cell": (b"a,b\n1\r3,2\n", "row 2 has 1 cells"),
    "open quote": (b'a,b\n"1,2\n3,4\n', "row 2 has 1 cells"),
    "short row": (b"a,b\n1\n", "row 2 has 1 cells, the header 2"),
    "not UTF-8": (b"a,b\n\xff,2\n", "cannot be read"),
    "text": (b"a,b\nx,2\n", "column 'a'"),
    "empty": (b"", "no column 'a'"),
}


@pytest.mark.parametrize("name", TABLES)
def test_damaged_table_is_refused_with_its_path(tmp_path: Path, name: str) -> None:
    text, words = TABLES[name]
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    with pytest.raises(ConfigError, match=r"t\.csv\.gz") as refused:
        TableFile(tmp_path / "t.csv.gz").numbers("a")
    assert (words or "") in str(refused.value)


def test_damaged_or_missing_gzip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"a\n" + b"".join(b"%d\n" % (i * i) for i in range(2000))))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    for data in (bytes(packed), bytes(packed[:50]), b"a\n1\n"):
        (tmp_path / "t.csv.gz").write_bytes(data)
        with pytest.raises(ConfigError, match="cannot be read"):
            TableFile(tmp_path / "t.csv.gz")
    with pytest.raises(ConfigError, match="cannot be read"):
        TableFile(tmp_path / "absent.csv.gz")


def test_skab_keeps_whole_experiments_on_one_side() -> None:
    for name, track in recordings.skab_experiments(need("skab")).items():
        group, _, number = name.rpartition("-")
        assert set(np.unique(track.part)) == {int(number in recordings.SKAB_TEST[group])}
    for site, names in recordings.SKAB_SITES.items():
        tests = [n.rpartition("-")[2] in recordings.SKAB_TEST[n.rpartition("-")[0]] for n in names]
        assert tests == sorted(tests) and any(tests) and not all(tests), site


def test_fan_keeps_the_last_part_of_each_recording_for_test() -> None:
    track = recordings.fan(need("fan"))["fan1-s1"]
    assert track.values.shape == (7, 120_000) and track.part.mean() == pytest.approx(0.3, abs=0.01)
    assert set(track.label[track.part == 0]) == set(track.label[track.part == 1]) == {0, 1, 2, 3}
    assert 0.5 < np.abs(track.values[:3].mean(axis=1)).max() < 1.5  # gravity, in g


def test_absent_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        scenario.load(tmp_path)


def test_track_survives_its_file(tmp_path: Path) -> None:
    track = recordings.simulated()["foundry"]
    write_track(tmp_path / "t.npz", track)
    again = read_track(tmp_path / "t.npz")
    assert again.channels == track.channels and again.segments == track.segments and again.kind == "waveform"
    assert (again.values == track.values).all()


def test_agent_sees_the_windows_that_offline_work_sees() -> None:
    made = scenario.load(None)
    track, card = made.tracks["foundry"], made.card
    tags = {n: TagConfig(source="plc", tag=n, waveform_hz=track.rate_hz) for n, _ in track.channels}
    length, hop = card.window.length, card.window.hop
    assembler = Assembler("m", tags, [], track.rate_hz, length, hop, 1, 0)
    start, stop = track.segments[0]
    seen = []
    for at in range(start, stop, track.block):
        stamp = round((at + track.block - 1) / track.rate_hz * 1e9)
        readings = [
            Reading(n, stamp, track.values[i, at : at + track.block]) for i, (n, _) in enumerate(track.channels)
        ]
        seen += assembler.push(Batch("plc", readings, stamp, 0))
    expected = [track.values[:, end - length : end] for end in range(start + length, stop + 1, hop)]
    assert len(seen) == len(expected)
    assert all((w.values == e).all() for w, e in zip(seen, expected, strict=True))


def test_federated_learning_approaches_pooling() -> None:
    made = scenario.load(None)
    sites = {n: site_data.standardised(site_data.windows(t, made.card), made.card) for n, t in made.tracks.items()}
    graph = TrainableGraph.load(made.model)
    start = graph.params.copy()
    learned = baselines.federated(graph, start, sites, member.Plan(10, scenario.CONFIG), 0)
    scores = [np.mean([baselines.score(graph, p, s) for s in sites.values()]) for p in (start, learned.params)]
    assert scores[1] > 0.85 > 0.4 > scores[0]


def test_taking_drift_back_and_local_tensors_in_a_whole_federation() -> None:
    """Sites that agree on x but not on its offset: one model cannot fit both, one with a local bias can."""
    rng, sites = np.random.default_rng(0), {}
    for k, name in enumerate("ab"):
        x = rng.normal(size=(120, 3)).astype(np.float32)
        y = (x[:, 0] + 4 * k).astype(np.float32)
        sites[name] = site_data.Windows(x, y, np.arange(120) >= 80, np.zeros(120, np.bool_))
    errors = {}
    for local in ("", "dense1.bias"):
        card = Card("regress", (Channel("a"),), WindowSpec(1, 1, 1), ("mean",), local=local)
        graph = TrainableGraph.load(zoo.mlp(card, 3, (16,)).SerializeToString())
        plan = member.Plan(20, TrainingConfig(learning_rate=0.01))
        fed = baselines.federated(graph, graph.params.copy(), sites, plan, 0)
        errors[local] = np.mean([baselines.score(graph, fed.at(n), s) for n, s in sites.items()])
        assert local or (fed.at("a") == fed.params).all()
    assert errors["dense1.bias"] < 0.5 < 1.5 < errors[""]


def test_plc_replays_every_value_at_its_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    track = Track(
        channels=(("a", "g"), ("b", "A")),
        kind="scalar",
        rate_hz=100.0,
        block=1,
        values=rng.normal(size=(2, 150)).astype(np.float32),
        label=np.repeat([0, 1, 0], 50),
        part=np.repeat([0, 0, 1], 50),
        segments=((0, 100), (100, 150)),
    )
    write_track(tmp_path / "t.npz", track)
    host = RecordingHost(tmp_path)
    with Processes(tmp_path / "logs", os.environ) as processes:
        command: list[str | Path] = [
            BIN / "fedge-fleet",
            "plc",
            "--track",
            tmp_path / "t.npz",
            "--ready",
            tmp_path / "port",
        ]
        processes.start("plc", [*command, "--go", tmp_path / "go"])
        until((tmp_path / "port").exists)
        source = OpcuaSource("plc", OpcuaConfig(url=f"opc.tcp://127.0.0.1:{(tmp_path / 'port').read_text()}/"))
        reader = threading.Thread(target=source.run, args=(["ns=2;s=a", "ns=2;s=b", "ns=2;s=label"], host))
        reader.start()
        until(lambda: len(host.readings) >= 3)
        assert all(r.quality is Quality.BAD for r in host.readings)  # nothing to read before the machine runs
        (tmp_path / "go").touch()
        until(lambda: sum(r.tag == "ns=2;s=b" and r.quality is Quality.GOOD for r in host.readings) == 150)
        host.stop.set()
        reader.join(LONGEST_S)
    for row, name in enumerate("ab"):
        got = [r for r in host.readings if r.tag == f"ns=2;s={name}" and r.quality is Quality.GOOD]
        np.testing.assert_array_equal(np.array([r.value for r in got], np.float32), track.values[row])
        steps = np.diff([r.time_ns for r in got]) / 1e9
        assert steps[:99] == pytest.approx(0.01, abs=1e-5) and steps[99] == pytest.approx(0.21, abs=1e-5)
    labels = [r for r in host.readings if r.tag == "ns=2;s=label"]
    assert labels[-1].quality is Quality.BAD  # the test part is not taught


def test_process_that_ends_by_itself_is_named_with_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path, os.environ) as processes:
        processes.start("bad", [sys.executable, "-c", "print('out of cheese'); raise SystemExit(3)"]).wait(LONGEST_S)
        with pytest.raises(StopError, match=r"bad ended with code 3.*\n.*cheese"):
            processes.check()


def test_what_a_process_leaves_behind_goes_too(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path / 'new'}; mv {tmp_path / 'new'} {tmp_path / 'pid'}; wait"
    with Processes(tmp_path / "logs", os.environ) as processes:
        for name in ("first", "second"):
            processes.start(name, ["sh", "-c", script])
            until((tmp_path / "pid").exists)
            child = Path("/proc") / (tmp_path / "pid").read_text().strip()
            assert child.exists()
            (tmp_path / "pid").unlink()
            if name == "first":
                assert processes.end(name) == -signal.SIGTERM
                assert not child.exists()
    assert not child.exists()


def test_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command: list[str | Path] = [BIN / "fedge-fleet", "demo", "--out", tmp_path / "out"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("running"):
            break
    mine = [pid for pid in map(str, tmp_path_users(tmp_path)) if pid != str(demo.pid)]
    assert len(mine) >= 10  # aggregator, four PLCs, MES, four agents
    demo.send_signal(signal.SIGINT)
    rest = demo.stdout.read()
    demo.stdout.close()
    assert demo.wait(LONGEST_S) == 130 and "stopped" in rest and "Traceback" not in rest
    assert not tmp_path_users(tmp_path)


def tmp_path_users(folder: Path) -> list[int]:
    """Processes with the folder on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_report_has_all_its_parts_and_escapes_them() -> None:
    made = report.Report(
        "a <b> title",
        [
            report.Table("Sites", ["site", "x"], [["one", "0.5"]]),
            report.LineChart("Score", "release", "F1", [report.Line("mean", [(1, 0.1), (2, 0.9)])], [(1.2, 1.5)]),
        ],
        [report.Promise("no <script>", "1 & 2", False), report.Promise("fine", "3", True)],
    )
    page = report.render(made)
    assert "<script>" not in page and "no &lt;script&gt;" in page and "NOT KEPT" in page
    assert page.count("<polyline") == 1 and page.count("<rect") == 1 and "0.5" in page
