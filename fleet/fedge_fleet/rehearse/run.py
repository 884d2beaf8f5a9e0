# SPDX-License-Identifier: Apache-2.0
"""Rehearse a folder: prepare, start, replay, watch, stop, evaluate.

Shutdown order: the replay first, so that nothing is written any more; then the processes, the last started first. A
rehearsal that is killed takes its processes with it (`machines.processes`).
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from fedge_models.errors import ConfigError, StopError
from fedge_models.system import files

from . import folder, plan
from .feed import Feeder
from .outcome import Outcome, evaluate
from .stage import Stage
from .watch import Watch

LOOK_S = 1.0
SHOWN_S = 10.0
UNANSWERED_S = 60.0  # without the pages of all processes


class Options(NamedTuple):
    """How to rehearse."""

    speed: float | None  # None: as the recordings are long
    rounds: int
    limit_s: float | None  # None: the usual one
    connectors: bool  # serve what can be served, in real time
    keep: Path | None  # folder for the rewritten files, logs and events; None: deleted at the end


def rehearse(root: Path, options: Options, say: Callable[[str], None]) -> Outcome:
    """Rehearse a folder. Raises StopError for what keeps it from starting."""
    if options.keep is not None and options.keep.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--keep {options.keep}: lies in {root}, whose next rehearsal would take its files for yours")
    read = folder.read(root.absolute())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with _scratch(options.keep) as scratch:
        made = plan.prepare(read, scratch, options.speed, options.rounds, options.limit_s, options.connectors)
        for word in made.words:
            say(word)
        return _play(made, options, say)


def _play(made: plan.Plan, options: Options, say: Callable[[str], None]) -> Outcome:
    files.make_folder(made.scratch / "status")
    stage, watch = Stage(made, say), Watch(made, options.rounds if made.aggregator is not None else 0)
    feeder = Feeder([feed for gateway in made.gateways.values() for feed in gateway.feeds.values()], made.speed)
    failed: str | None = None
    began = time.monotonic()
    try:
        with stage.processes:
            stage.start()
            say(f"running at {made.speed:g} times real time; Ctrl-C ends it")
            began = time.monotonic()
            feeder.start()
            try:
                _look(stage, watch, feeder, began, options.limit_s or plan.USUAL_LIMIT_S, say)
            except StopError as e:  # a process has ended: what was seen until then is still of use
                failed = str(e)
            seconds = time.monotonic() - began
            feeder.stop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends anyway, within seconds
    finally:
        feeder.stop()
    for name, status in watch.statuses.items():  # for those who --keep the folder
        files.write(made.scratch / "status" / f"{name}.json", msgspec.json.encode(status))
    return evaluate(made, watch, seconds, failed)


def _look(stage: Stage, watch: Watch, feeder: Feeder, began: float, limit_s: float, say: Callable[[str], None]) -> None:
    """Look once a second until it is over. Raises StopError when a process ends by itself."""
    shown = answered = began
    while True:
        stage.processes.check()
        now = time.monotonic()
        try:
            statuses = {name: stage.status(name) for name in stage.plan.gateways}
            watch.look(statuses, stage.aggregator_status(), now - began)
        except StopError:  # it is ending, which its last words explain, or it is busy
            if now - answered > UNANSWERED_S:
                raise
        else:
            answered = now
        watch.use |= stage.use()
        if now - shown >= SHOWN_S:
            shown = now
            say(watch.line(feeder.done, now - began))
        if now - began >= limit_s or watch.over(feeder.done, now - began):
            return
        time.sleep(LOOK_S)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    """A folder for the rehearsal: `keep`, which must be new or empty, or one that is deleted at the end."""
    if keep is None:
        path = Path(tempfile.mkdtemp(prefix="fedge-rehearsal-"))
        try:
            yield path
        finally:
            with suppress(OSError):
                shutil.rmtree(path)
        return
    if problem := files.folder_problem(keep):
        raise ConfigError(problem)
    if keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"--keep {keep}: is not empty; name a new folder")
    files.make_folder(keep.absolute())
    yield keep.absolute()
