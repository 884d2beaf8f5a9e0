# SPDX-License-Identifier: Apache-2.0
"""The main job with real processes: an aggregator, four agents, a PLC for each, a MES; watched, evaluated, reported.

Everything is started as a user starts it, through the command lines, and talks over the network. What the summary
promises is measured; a promise that is not kept is the exit code.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fedge_models.errors import ConfigError, StopError
from fedge_models.system import files

from ..report import render
from .promises import evaluate, summarise
from .scenario import Scenario, load
from .stage import Stage
from .watch import Comparison, Watch

GRACE_S = 4.0  # after the replays, for the last orders and updates


def demo(data: Path | None, out: Path, say: Callable[[str], None], real_mes: Path | None = None) -> bool:
    """Run the demo; return True when every promise was kept.

    Raises StopError when a program did not start, ConfigError when the report cannot be written to the folder `out`.

    real_mes: the virtual environment of a Tryton, which then gets the work orders instead of the stand-in.
    """
    if problem := files.folder_problem(out):
        raise ConfigError(problem)
    scenario = load(data)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="fedge-demo-") as folder:
        stage = Stage(scenario, Path(folder), say, real_mes)
        pids: list[int] = []
        try:
            with stage.processes:
                stage.start()
                watch, compared = play(stage, scenario, say)
                orders = stage.orders()
                bytes_down = {s: w["bytes_down"] for s, w in watch.statuses.items()}
                pids = list(stage.processes.pids().values())
        except StopError as e:
            say(str(e))
            raise
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        report = evaluate(scenario, watch, compared, orders, left, bytes_down)
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(render(report))
    summarise(report, out, say)
    return all(p.kept for p in report.promises)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def play(stage: Stage, scenario: Scenario, say: Callable[[str], None]) -> tuple[Watch, Comparison]:
    """Start the machines and watch them until the end of the replay."""
    stage.go.touch()
    watch = Watch()
    compared = Comparison(scenario, watch.began)
    aside = threading.Thread(target=compared.work_out, daemon=True)
    try:
        aside.start()
        say("running; every line: sites, release, score of the global model, latency, bytes, work orders")
        _look(stage, watch, compared, time.time() + scenario.seconds + GRACE_S, say)
    except BaseException:
        compared.stop.set()
        raise
    finally:
        if aside.ident is not None:
            aside.join()  # an interpreter that ends while a thread is in native code aborts
    return watch, compared


def _look(stage: Stage, watch: Watch, compared: Comparison, end: float, say: Callable[[str], None]) -> None:
    """Look twice a second until `end`, and print a line every five seconds."""
    shown = 0.0
    while time.time() < end:
        stage.processes.check()
        watch.look(stage)
        if time.time() - shown > 5:
            shown = time.time()
            say(watch.line(compared))
        time.sleep(0.5)
    watch.look(stage)
