# SPDX-License-Identifier: Apache-2.0
"""The processes of a rehearsal, started as a user starts them: through the command lines, from the rewritten files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_agent.health import STATUS_FILE
from fedge_aggregator.config.schema import ADDRESS_FILE
from fedge_aggregator.config.schema import STATUS_FILE as AGGREGATOR_STATUS

from ..machines.local import BIN, broker_config, environment, get, listens, program
from ..machines.processes import Processes, run
from .plan import Gateway, Plan

READY_S = 60.0
AGGREGATOR = "aggregator"


class Stage:
    """An aggregator, if there is one, and an agent for each gateway."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.say, self.env = plan, say, environment()
        self.processes = Processes(plan.scratch / "logs", self.env)
        self.pages: dict[str, str] = {}  # gateway -> host:port of its status page
        self._aggregator_page = ""  # empty: there is no aggregator

    def start(self) -> None:
        """Start everything, and wait until every gateway answers and has its models. Raises StopError."""
        if self.plan.aggregator is not None:
            self._aggregator(self.plan.aggregator)
        for name, gateway in self.plan.gateways.items():
            self._join(name, gateway)
            self._machines(name, gateway)
        for name, gateway in self.plan.gateways.items():
            self.processes.start(name_of(name), [BIN / "fedge-agent", "start", "--config", gateway.config])
        for name, gateway in self.plan.gateways.items():
            self.pages[name] = self.processes.text_of(gateway.place.state / STATUS_FILE, READY_S)
        self.processes.wait_until(self._all_have_models, "every gateway has its first release", READY_S)

    def status(self, gateway: str) -> dict[str, Any]:
        """The status page of a gateway. Raises StopError."""
        found: dict[str, Any] = get(self.pages[gateway], "/status")
        return found

    def aggregator_status(self) -> dict[str, Any] | None:
        """The status page of the aggregator; None where there is none. Raises StopError."""
        return get(self._aggregator_page, "/status") if self._aggregator_page else None

    def use(self) -> dict[str, tuple[float, float]]:
        """Process -> its largest memory until now (MiB) and its processor time (s); empty where /proc is not there."""
        found = {}
        for name, pid in self.processes.pids().items():
            if (used := _use(pid)) is not None:
                found[name] = used
        return found

    def _aggregator(self, config: Path) -> None:
        option: list[str | Path] = ["--config", config]
        for name, (file, card) in self.plan.models.items():
            more: list[str | Path] = ["--card", card] if card is not None else []
            self.say(run([BIN / "fedge-aggregator", "model", "add", name, file, *more, *option], self.env).strip())
        self.processes.start(AGGREGATOR, [BIN / "fedge-aggregator", "start", *option])
        state = self.plan.scratch / AGGREGATOR
        self.processes.text_of(state / ADDRESS_FILE, READY_S)
        self._aggregator_page = self.processes.text_of(state / AGGREGATOR_STATUS, READY_S)

    def _join(self, name: str, gateway: Gateway) -> None:
        if self.plan.aggregator is None or not gateway.federations:
            return
        wanted = [part for federation in gateway.federations for part in ("--federation", federation)]
        invite: list[str | Path] = [BIN / "fedge-aggregator", "invite", name, *wanted]
        invitation = run([*invite, "--config", self.plan.aggregator], self.env).strip()
        run([BIN / "fedge-agent", "join", invitation, "--config", gateway.config], self.env)

    def _machines(self, name: str, gateway: Gateway) -> None:
        """Start what serves recordings, and wait until a gateway may connect."""
        for source, machine in gateway.machines.items():
            title = f"{machine.kind}-{name}-{source}"
            if machine.kind == "mqtt":
                config = machine.plan.with_suffix(".conf")
                config.write_text(broker_config(machine.port))
                self.processes.start(f"broker-{title}", [str(program("mosquitto")), "-c", config])
                self.processes.wait_until(lambda port=machine.port: listens(port), "mosquitto listens", READY_S)  # type: ignore[misc]
            self.processes.start(title, [BIN / "fedge-fleet", "replay", machine.plan])
            self.processes.text_of(machine.ready, READY_S)

    def _all_have_models(self) -> bool:
        for name, gateway in self.plan.gateways.items():
            models = self.status(name)["models"]
            if any(models[federation]["head"] is None for federation in gateway.federations):
                return False
        return True


def name_of(gateway: str) -> str:
    """The name of a gateway's process, which may not be that of the aggregator's."""
    return f"gateway-{gateway}"


def _use(pid: int) -> tuple[float, float] | None:
    """Largest memory (MiB) and processor time (s) of a process, from /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return peak / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
