"""The main job with real processes: an aggregator, four agents, a PLC for each, a MES; watched, judged, reported.

Everything is started as a user starts it, through the command lines, and talks over the network. What the summary
promises is measured; a promise that is not kept is the exit code.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import StopError
from fedge_models.graph import TrainableGraph
from fedge_models.training import auroc, macro_f1
from numpy.typing import NDArray

from . import offline
from .processes import Processes, run
from .recordings import write_track
from .report import Line, Plot, Promise, Report, render
from .scenario import CONFIG, Scenario, load

FEDERATION = "demo"
ROUNDS_FOR_OWN = 12  # a site alone trains about as often as the federation does
READY_S = 40.0
GRACE_S = 4.0  # after the replays, for the last orders and updates
BIN = Path(sys.executable).parent


@dataclass
class Watch:
    """What was seen while it ran."""

    began: float = field(default_factory=time.time)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    releases: dict[int, tuple[float, NDArray[np.float32]]] = field(default_factory=dict)  # version -> (s, weights)


@dataclass
class Offline:
    """The comparison, worked out beside the running fleet."""

    graph: TrainableGraph
    sites: dict[str, offline.Windows]
    own: dict[str, float] = field(default_factory=dict)
    own_everywhere: dict[str, float] = field(default_factory=dict)
    central: dict[str, float] = field(default_factory=dict)


def demo(data: Path | None, out: Path, say: Callable[[str], None]) -> bool:
    """Run it; True when every promise was kept. Raises StopError when something did not even start."""
    scenario = load(data)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="fedge-demo-") as folder:
        stage = Stage(scenario, Path(folder), say)
        pids: list[int] = []
        try:
            with stage.processes:
                stage.start()
                watch, compared = stage.play()
                orders = _get(stage.mes_address, "/work-orders")
                bytes_down = {s: w["bytes_down"] for s, w in watch.statuses.items()}
                pids = list(stage.processes.pids().values())
        except StopError as e:
            say(str(e))
            raise
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        report = judge(scenario, watch, compared, orders, left, bytes_down)
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(render(report))
    summarise(report, out, say)
    return all(p.kept for p in report.promises)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class Stage:
    """The processes and their files."""

    def __init__(self, scenario: Scenario, folder: Path, say: Callable[[str], None]) -> None:
        self.scenario, self.folder, self.say = scenario, folder, say
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.env = {**os.environ, **threads, "ORT_DISABLE_TELEMETRY": "1"}
        self.processes = Processes(folder / "logs", self.env)
        self.graph = TrainableGraph.load(scenario.model)
        self.agents: dict[str, str] = {}  # site -> host:port of the status page
        self.mes_address = ""
        self.go = folder / "go"

    def start(self) -> None:
        """Everything up to the moment before the machines start."""
        scenario, folder = self.scenario, self.folder
        self.say(f"fedge demo: {scenario.name}; {len(scenario.tracks)} sites, {len(self.graph.params)} parameters")
        self._aggregator()
        for site, track in scenario.tracks.items():
            write_track(folder / f"{site}.npz", track)
            ready = folder / f"{site}.port"
            self._fleet(f"plc-{site}", "plc", "--track", folder / f"{site}.npz", "--ready", ready, "--go", self.go)
        self._fleet("mes", "mes", "--store", folder / "mes.sqlite", "--ready", folder / "mes.port", "--drop", "0.4")
        self.mes_address = "127.0.0.1:" + self._wait_for(folder / "mes.port")
        joining = [threading.Thread(target=self._agent, args=(site,)) for site in scenario.tracks]
        for thread in joining:
            thread.start()
        for thread in joining:
            thread.join()
        for site in scenario.tracks:
            config = folder / f"{site}.toml"
            self.processes.start(f"agent-{site}", [BIN / "fedge-agent", "start", "--config", config])
        for site in scenario.tracks:
            self.agents[site] = self._wait_for(folder / site / "status.addr")
        self._until(self._all_connected, "agents connected to their PLCs")

    def play(self) -> tuple[Watch, Offline]:
        """Let the machines run, and watch."""
        watch, compared = Watch(), Offline(self.graph, {})
        aside = threading.Thread(target=self._compare, args=(compared,), daemon=True)
        aside.start()
        self.go.touch()
        self.say("running; every line: sites, release, score of the global model, latency, bytes, work orders")
        end = time.time() + self.scenario.seconds + GRACE_S
        shown = 0.0
        while time.time() < end:
            self.processes.check()
            self._look(watch)
            if time.time() - shown > 5:
                shown = time.time()
                self.say(self._line(watch, compared))
            time.sleep(0.5)
        self._look(watch)
        aside.join()
        return watch, compared

    # parts of start

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
        channels = "".join(
            f'channels.{name} = {{ source = "plc", tag = "ns=2;s={name}"{wave} }}\n' for name, _ in track.channels
        )
        port = self._wait_for(self.folder / f"{site}.port")
        return f"""
[agent]
name = "{site}"
state = "{self.folder / site}"

[source.plc]
type = "opcua"
url = "opc.tcp://127.0.0.1:{port}/"

[model.{FEDERATION}]
poll = "500ms"
training = {{ interval = "2s", min_samples = 24, learning_rate = {CONFIG.learning_rate} }}

[asset.machine]
model = "{FEDERATION}"
{channels}label = {{ source = "plc", tag = "ns=2;s=label" }}
window = {{ max_hold = {2 * track.block / track.rate_hz + 0.1}, lateness = {2 * track.block / track.rate_hz} }}
when = {{ for_windows = 3, min_gap = "2s" }}

[output.mes]
type = "mes"
url = "http://{self.mes_address}/work-orders"
clear_url = "http://{self.mes_address}/work-orders/{{key}}/cleared"
"""

    def _fleet(self, name: str, *command: str | Path) -> None:
        self.processes.start(name, [BIN / "fedge-fleet", *command])

    def _wait_for(self, path: Path) -> str:
        self._until(lambda: path.exists() and bool(path.read_text()), path.name)
        return path.read_text()

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not done():
            self.processes.check()
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {n}\n{self.processes.tail(n, 4)}" for n in self.processes.pids())
                raise StopError(f"waited {READY_S:.0f} s in vain for: {what}\n{tails}")
            time.sleep(0.05)

    def _all_connected(self) -> bool:
        for address in self.agents.values():
            status = _get(address, "/status")
            if status["sources"]["plc"]["readings"] == 0 or status["models"][FEDERATION]["head"] is None:
                return False
        return True

    # parts of play

    def _look(self, watch: Watch) -> None:
        for site, address in self.agents.items():
            watch.statuses[site] = _get(address, "/status")
            known = watch.decisions.setdefault(site, {})
            for decision in _get(address, "/decisions")["machine"]:
                known[decision["time_ns"]] = decision
        head = self._head()
        if head is not None and head[0] not in watch.releases:
            watch.releases[head[0]] = (time.time() - watch.began, head[1])

    def _head(self) -> tuple[int, NDArray[np.float32]] | None:
        """The newest release that the first agent has verified."""
        from fedge_agent.chain import ChainStore  # noqa: PLC0415

        site = next(iter(self.agents))
        kept = ChainStore(self.folder / site / "models" / FEDERATION).load("head", self.graph)
        return (kept.header.version, kept.weights) if kept else None

    def _line(self, watch: Watch, compared: Offline) -> str:
        statuses = list(watch.statuses.values())
        version, score = max(watch.releases, default=0), "-"
        if len(compared.sites) == len(self.scenario.tracks) and version and compared.central:
            scores = scored(compared, watch.releases[version][1])
            score = f"{np.mean(list(scores.values())):.3f} (own {np.mean(list(compared.own.values())):.3f})"
        orders = sum(s["outputs"]["mes"]["delivered"] for s in statuses)
        return (
            f"{time.time() - watch.began:5.0f} s  sites {len(statuses)}  release {version:2d}  score {score}  "
            f"decisions {sum(s['latency']['decisions'] for s in statuses):5d}  "
            f"p50 {np.median([s['latency']['p50_ms'] for s in statuses]):.2f} ms  "
            f"p99 {max(s['latency']['p99_ms'] for s in statuses):.2f} ms  "
            f"up {sum(s['bytes_up'] for s in statuses) / 1024:.0f} KiB  "
            f"down {sum(s['bytes_down'] for s in statuses) / 1024:.0f} KiB  work orders {orders}"
        )

    def _compare(self, compared: Offline) -> None:
        """Each site alone and all together, trained here at the lowest priority."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        scenario, start = self.scenario, self.graph.params.copy()
        compared.graph = graph = TrainableGraph.load(scenario.model)
        for site, track in scenario.tracks.items():
            compared.sites[site] = offline.standardised(offline.windows(track, scenario.card), scenario.card)
        pool = offline.pooled(compared.sites)
        for site, windows in compared.sites.items():
            own = offline.alone(graph, start, windows, CONFIG, ROUNDS_FOR_OWN, seed=0)
            compared.own[site] = offline.score(graph, own, windows)
            compared.own_everywhere[site] = float(
                np.mean([offline.score(graph, own, w) for w in compared.sites.values()])
            )
        central = offline.alone(graph, start, pool, CONFIG, ROUNDS_FOR_OWN, seed=0)
        compared.central = {s: offline.score(graph, central, w) for s, w in compared.sites.items()}


def scored(compared: Offline, weights: NDArray[np.float32]) -> dict[str, float]:
    """The score of given weights on each site's test part."""
    return {site: offline.score(compared.graph, weights, w) for site, w in compared.sites.items()}


def live_score(scenario: Scenario, site: str, watch: Watch, wall: float) -> float | None:
    """What the agent itself decided during the test part, against the truth that it was not shown."""
    track, said, truth = scenario.tracks[site], [], []
    for decision in watch.decisions[site].values():
        at = track.sample_at(decision["time_ns"] / 1e9 - wall)
        first = None if at is None else at - scenario.card.window.length + 1
        if at is None or first is None or first < 0 or not track.part[at] or track.label[first] != track.label[at]:
            continue
        truth.append(int(track.label[at]))
        guess = decision["score"]
        said.append(scenario.card.labels.index(decision["label"]) if scenario.card.task == "classify" else guess)
    if len(set(truth)) < 2:
        return None
    if scenario.card.task == "classify":
        return macro_f1(np.array(truth), np.array(said))
    return auroc(np.array(said), np.array(truth) == 1)


def judge(
    scenario: Scenario,
    watch: Watch,
    compared: Offline,
    orders: list[dict[str, Any]],
    left: list[int],
    bytes_down: dict[str, int],
) -> Report:
    """The summary and the report."""
    graph, last = compared.graph, max(watch.releases)
    fed = scored(compared, watch.releases[last][1])
    statuses = watch.statuses
    events = sum(s["assets"]["machine"]["events"] for s in statuses.values())
    updates = sum(len([1 for t in s["models"][FEDERATION]["trainings"]]) for s in statuses.values())
    p99 = max(s["latency"]["p99_ms"] for s in statuses.values())
    per_update = {s: st["bytes_up"] / max(1, _sent(st)) for s, st in statuses.items()}
    ratio = max(per_update.values()) / (4 * len(graph.params))
    lost = sum(sum(s["lost"].values()) for s in statuses.values())
    mean_fed, mean_own = float(np.mean(list(fed.values()))), float(np.mean(list(compared.own.values())))
    everywhere = float(np.mean(list(compared.own_everywhere.values())))
    mean_central = float(np.mean(list(compared.central.values())))
    versions = {s: st["models"][FEDERATION]["release"] for s, st in statuses.items()}
    promises = [
        Promise("every site decides", f"{[s['latency']['decisions'] for s in statuses.values()]}", all(
            s["latency"]["decisions"] > 100 for s in statuses.values())),
        Promise("no reading, sample or event lost", str(lost), lost == 0),
        Promise("decisions within 20 ms (p99, while training)", f"{p99:.2f} ms", p99 <= 20),
        Promise("at least 6 rounds, all sites on a recent release", f"{last - 1} rounds, {list(versions.values())}",
                last >= 7 and min(v or 0 for v in versions.values()) >= last - 2),
        Promise("on everyone's machines, the federated model is at least as good as the sites' own (means)",
                f"{mean_fed:.3f} against {everywhere:.3f}", mean_fed >= everywhere),
        Promise("federated at least 98 % of pooling all data (means)", f"{mean_fed:.3f} against {mean_central:.3f}",
                mean_fed >= 0.98 * mean_central),
        Promise("federated at least 98 % of the sites' own models on their own machines (means)",
                f"{mean_fed:.3f} against {mean_own:.3f}", mean_fed >= 0.98 * mean_own),
        Promise("an update is under 40 % of float32 (small model: signature and headers weigh)",
                f"{ratio:.1%}", ratio < 0.4),
        Promise("each event is exactly one work order, answers lost on purpose",
                f"{events} events, {len(orders)} orders, {sum(o['deliveries'] > 1 for o in orders)} delivered twice",
                events == len(orders) and events > 0),
        Promise("no process left behind", f"{len(left)}", not left),
    ]  # fmt: skip
    table = []
    for site, status in statuses.items():
        wall = watch.began
        live = live_score(scenario, site, watch, wall)
        table.append(
            [
                site,
                f"{compared.own[site]:.3f}",
                f"{compared.own_everywhere[site]:.3f}",
                f"{fed[site]:.3f}",
                f"{compared.central[site]:.3f}",
                "-" if live is None else f"{live:.3f}",
                str(status["latency"]["decisions"]),
                f"{status['latency']['p50_ms']:.2f}",
                f"{status['latency']['p99_ms']:.2f}",
                f"{status['bytes_up'] / 1024:.1f}",
                f"{bytes_down[site] / 1024:.1f}",
                f"{status['rss_mib']:.0f}",
                str(sum(o["body"]["reference"].startswith(f"{site}:") for o in orders)),
            ]
        )
    header = ["site", "own", "own everywhere", "federated", "central", "live", "decisions", "p50 ms", "p99 ms",
              "KiB up", "KiB down", "RSS MiB", "orders"]  # fmt: skip
    return Report(
        f"fedge demo: {scenario.name}",
        promises,
        [(f"Sites ({scenario.metric} on the test part, {updates} trainings shown in status)", header, table)],
        _plots(scenario, watch, compared),
    )


def _sent(status: dict[str, Any]) -> int:
    """How many updates an agent has handed over (each training makes one)."""
    release = status["models"][FEDERATION]["head"] or 1
    return max(1, min(release, max((t["base"] for t in status["models"][FEDERATION]["trainings"]), default=1)))


def _plots(scenario: Scenario, watch: Watch, compared: Offline) -> list[Plot]:
    scores = {v: scored(compared, w) for v, (_, w) in sorted(watch.releases.items())}
    per_site = [Line(site, [(float(v), s[site]) for v, s in scores.items()]) for site in scenario.tracks]
    means = [(float(v), float(np.mean(list(s.values())))) for v, s in scores.items()]
    own = float(np.mean(list(compared.own_everywhere.values())))
    flat = [(means[0][0], own), (means[-1][0], own)]
    site = next(iter(scenario.tracks))
    decisions = sorted(watch.decisions[site].values(), key=lambda d: d["time_ns"])
    zero = decisions[0]["time_ns"] if decisions else 0
    line = [((d["time_ns"] - zero) / 1e9, d["score"]) for d in decisions]
    limit = [((d["time_ns"] - zero) / 1e9, d["threshold"]) for d in decisions if d["threshold"] is not None]
    cap = 4 * float(np.median([y for _, y in limit])) if limit else 1.0
    offset = zero / 1e9 - watch.began
    return [
        Plot("The global model, release by release", "release", scenario.metric,
             [Line("mean of all sites", means), Line("own model, on everyone's machines", flat, dashed=True)]),
        Plot("Site by site", "release", scenario.metric, per_site),
        Plot(f"What {site} decided (shaded: a labelled fault)", "s", "score",
             [Line("score", [(x, min(y, cap)) for x, y in line]), Line("threshold", limit, dashed=True)],
             _faults(scenario, site, offset)),
    ]  # fmt: skip


def _faults(scenario: Scenario, site: str, offset: float) -> list[tuple[float, float]]:
    """Spans (s since the first decision) in which the machine is labelled other than normal."""
    from .recordings import GAP_S  # noqa: PLC0415

    track, spans = scenario.tracks[site], []
    normal = scenario.card.normal_index if scenario.card.task == "classify" else 0
    for k, (start, stop) in enumerate(track.segments):
        bad = np.flatnonzero(np.diff(np.concatenate([[0], track.label[start:stop] != normal, [0]])))
        for a, b in bad.reshape(-1, 2).tolist():
            shift = k * GAP_S - offset
            spans.append(((start + a) / track.rate_hz + shift, (start + b) / track.rate_hz + shift))
    return spans


def summarise(report: Report, out: Path, say: Callable[[str], None]) -> None:
    """The summary as text."""
    for title, header, rows in report.tables:
        say(f"\n{title}")
        widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            say("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)))
    say("")
    for promise in report.promises:
        say(f"{'kept    ' if promise.kept else 'NOT KEPT'}  {promise.text}: {promise.measured}")
    say(f"\nreport: {out / 'index.html'}")


def _get(address: str, path: str) -> Any:
    """JSON from a local page. Raises StopError."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise StopError(f"http://{address}{path}: {e}") from e
    finally:
        connection.close()
