# SPDX-License-Identifier: Apache-2.0
"""Parts of one gateway that would spoil each other's files or sessions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedge_models.errors import ConfigError
from fedge_models.system.files import one_name

from ..types import Plugin
from .schema import Config

OWN = ("spool.sqlite", "inbox.sqlite", "samples.sqlite", "running.lock", "status.addr", "machine")
FOLDERS = ("models", "outputs", "sources", "stations", "identity", "opcua")  # of the state folder


def check(where: str, state: Path, parts: Mapping[str, Plugin], files: Mapping[str, Path]) -> None:
    """Raise ConfigError naming two parts of which one writes what the other reads or has.

    parts, files: those of the functions below.
    """
    read = {name: [str(path)] for name, path in files.items()} | {n: p.reads for n, p in parts.items()}
    claimed: dict[str, str] = {}
    for name, part in parts.items():
        for claim in part.claims:
            if owner := claimed.get(claim) or _reader(claim, name, read) or _own(claim, state):
                raise ConfigError(f"{where}: {name} uses {claim}, and so does {owner}; give each its own")
            claimed[claim] = name


def parts(sources: Mapping[str, Plugin], outputs: Mapping[str, Plugin]) -> dict[str, Plugin]:
    """Sources and outputs by the names that messages give them."""
    return {f"source {n}": s for n, s in sources.items()} | {f"output {n}": o for n, o in outputs.items()}


def read_by(config: Config, where: Path) -> dict[str, Path]:
    """The files that the configuration names besides those of sources and outputs, and itself."""
    found = {"the configuration": where}
    found |= {f"key model.{n}.file": m.file for n, m in config.model.items() if m.file is not None}
    found |= {f"key model.{n}.card": m.card for n, m in config.model.items() if m.card is not None}
    looks = {n: a.inspection for n, a in config.asset.items() if a.inspection is not None}
    return found | {f"key asset.{n}.inspection.path": look.path for n, look in looks.items() if look.path is not None}


def _reader(claim: str, name: str, read: Mapping[str, Sequence[str]]) -> str:
    found = (other for other, paths in read.items() if other != name and claim in map(_resolved, paths))
    return next(found, "")


def _resolved(path: str) -> str:
    return one_name(Path(path))


def _own(claim: str, state: Path) -> str:
    """The state folder, if it has a file of its own there."""
    folder = one_name(state)
    inside = claim.removeprefix(f"{folder}/") if claim.startswith(f"{folder}/") else ""
    return f"the state folder {state}" if inside.partition("/")[0] in (*OWN, *FOLDERS) else ""
