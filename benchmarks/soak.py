# SPDX-License-Identifier: Apache-2.0
"""An hour of faults: is each one in `fedge-agent status` while it lasts, and gone after? And does memory grow?

A real agent watches four machines over OPC UA, MQTT, a file and HTTP, with a MES and an aggregator. Every five minutes
one part fails for half of that time. *shown after*: seconds until `status` said so, with exit code 2 (0 where nothing
is lost by it); *gone after*: seconds after the mend until it said nothing of it and ended with 0. `--quick`: one fault,
for 20 s. Needs mosquitto.
"""

from __future__ import annotations

import _common  # isort: skip  # sets the BLAS threads first

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _plant import Plant
from fedge_fleet.machines.processes import Processes

WARM_UP_S = 600.0  # before memory is looked at
LOOK_S = 2.0
READY_S = 600.0


@dataclass(frozen=True)
class Fault:
    """What happens, how it ends, and what `status` must say meanwhile (a regular expression)."""

    name: str
    begin: Callable[[], object]
    mend: Callable[[], object]
    says: str
    code: int = 2  # of `status` meanwhile; 0: nothing is lost by it


@dataclass(frozen=True)
class Seen:
    """When a fault was in `status`, s; None: never."""

    shown: float | None
    gone: float | None
    line: str


def faults(plant: Plant) -> list[Fault]:
    """All faults, in the order in which they come."""
    press, oven, heater = plant.press, plant.oven, plant.heater

    def bend(
        machine: object, how: Callable[[float, float, float], tuple[object, object, object]]
    ) -> Callable[[], None]:
        return lambda: setattr(machine, "bend", how)

    return [
        Fault("OPC UA server hangs", lambda: plant.freeze(plant.pump), lambda: plant.thaw(plant.pump), r"pump.*stale"),
        Fault("MQTT machine says nothing", lambda: setattr(press, "silent", True), press.heal, r"press.*stale"),
        Fault("file is not written", lambda: setattr(oven, "silent", True), oven.heal, r"oven.*stale"),
        Fault("broker is gone", lambda: plant.end("mosquitto"), plant.start_broker, r"press.*stale"),
        Fault("MQTT decimal commas", bend(press, lambda t, a, b: (t, a, "1,52")), press.heal, r"press.*stale.*1,52"),
        Fault("values out of range", bend(press, lambda t, a, b: (t, a, 3.4e38)), press.heal, r"press.*stale.*range"),
        Fault("meter answers 500", lambda: setattr(plant.meter, "sick", True), heal_meter(plant), r"heater.*stale"),
        Fault(
            "meter's clock stands",
            bend(heater, lambda t, a, b: (1.7e9, a, b)),
            heater.heal,
            r"source meter.*stands still",
            code=0,
        ),
        Fault("file with text", bend(oven, lambda t, a, b: (t, a, "n/a")), oven.heal, r"oven.*stale"),
        Fault("MES answers 500", lambda: wear(plant, True), lambda: wear(plant, False), r"mes.*PROBLEM.*500"),
        Fault(
            "aggregator hangs",
            lambda: plant.freeze(plant.aggregator),
            lambda: plant.thaw(plant.aggregator),
            r"model line.*PROBLEM",
        ),
        Fault("OPC UA server is gone", lambda: plant.end("pump"), plant.start_pump, r"pump.*stale"),
    ]


def heal_meter(plant: Plant) -> Callable[[], None]:
    """Let the meter answer again."""
    return lambda: setattr(plant.meter, "sick", False)


def wear(plant: Plant, sick: bool) -> None:
    """A machine that needs a work order, at a MES that takes none."""
    plant.mes.sick = sick
    plant.heater.worn = sick


def watch(plant: Plant, fault: Fault, lasts_s: float, every_s: float) -> Seen:
    """Let it happen and mend it; whether and when `status` said so."""
    begun, shown, line = time.monotonic(), None, ""
    fault.begin()
    while time.monotonic() - begun < lasts_s:
        time.sleep(LOOK_S)
        code, text = plant.status()
        found = re.search(f".*{fault.says}.*", text, re.IGNORECASE)
        if found and code == fault.code:
            shown = shown if shown is not None else time.monotonic() - begun
            line = found.group().strip()
        elif shown is not None:
            print(f"  {fault.name}: no longer shown while it lasts; exit code {code}\n{text}", flush=True)
            shown = None
    fault.mend()
    mended, gone = time.monotonic(), None
    while time.monotonic() - begun < every_s or gone is None:
        code, text = plant.status()
        clean = code == 0 and not re.search(fault.says, text, re.IGNORECASE)
        gone = (gone if gone is not None else time.monotonic() - mended) if clean else None
        if time.monotonic() - begun > 2 * every_s:
            print(f"  {fault.name}: still there, exit code {code}\n{text}", flush=True)
            break
        time.sleep(LOOK_S)
    return Seen(shown, gone, line)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MiB (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS")) / 1024


def slope(samples: list[tuple[float, float]]) -> float:
    """MiB an hour, by least squares over (s, MiB) after the warm-up; of all samples when there is nothing after it."""
    kept = [s for s in samples if s[0] > WARM_UP_S] or samples
    t, mb = np.array(kept).T
    return float(np.polyfit(t / 3600, mb, 1)[0]) if len(kept) > 1 else 0.0


def ready(plant: Plant) -> None:
    """Wait until all machines are decided on and nothing is wrong."""
    begun = time.monotonic()
    while (seen := plant.status())[0] != 0 or len(re.findall(r"^asset \w+: normal", seen[1], re.MULTILINE)) < 4:
        if time.monotonic() - begun > READY_S:
            raise SystemExit(f"not ready after {READY_S:.0f} s:\n{seen[1]}")
        time.sleep(LOOK_S)


def main() -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--every", type=float, default=300.0, help="seconds from one fault to the next")
        parser.add_argument("--only", default="", help="the faults with this text in their names")

    chosen = _common.arguments(__doc__ or "", more)
    every = 40.0 if chosen.quick else chosen.every
    rss: dict[str, list[tuple[float, float]]] = {"agent": [], "aggregator": []}
    rows, seen = [], []
    with tempfile.TemporaryDirectory() as name, Processes(Path(name) / "logs", os.environ) as processes:
        plant = Plant(Path(name), processes)
        plant.start()
        ready(plant)
        begun = time.monotonic()
        for fault in [f for f in faults(plant) if chosen.only in f.name][: 1 if chosen.quick else None]:
            one = watch(plant, fault, every / 2, every)
            seen.append(one)
            for who, process in (("agent", plant.agent), ("aggregator", plant.aggregator)):
                rss[who].append((time.monotonic() - begun, rss_mb(process.pid)))
            words = [fault.name, *("never" if s is None else f"{s:.0f}" for s in (one.shown, one.gone)), one.line]
            rows.append(words)
            print("  ".join(words), flush=True)
        plant.stop()
    print()
    _common.table(["fault", "shown after s", "gone after s", "as"], rows)
    figures = {
        "faults": float(len(seen)),
        "faults_shown": float(sum(s.shown is not None for s in seen)),
        "faults_gone": float(sum(s.gone is not None for s in seen)),
        "rss_slope_mb_per_hour": slope(rss["agent"]),
        "aggregator_rss_slope_mb_per_hour": slope(rss["aggregator"]),
    }
    print(", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    _common.finish("soak", figures, chosen.json)


if __name__ == "__main__":
    main()
