# SPDX-License-Identifier: Apache-2.0
"""The settings of a simulation: a TOML file as a frozen struct; every key is also a flag of the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import settings
from fedge_models.training.config import Fraction
from msgspec import Meta

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = dict[str, Any]
Positive = Annotated[int, Meta(ge=1)]
COMMAND = "fedge-fleet simulate"


def named(name: str) -> Any:
    """The default of a table."""
    return msgspec.field(default_factory=lambda: {"name": name})


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file; docs/data-scientist/simulate.md explains the tables."""

    set: Annotated[str, Meta(description="Which data; bearings are simulated and need none.")] = "bearings"
    data: Annotated[Path | None, Meta(description="Folder that holds the recorded sets.")] = None
    sites: Annotated[int, Meta(ge=2, le=5000, description="How many the data is dealt to.")] = 20
    skew: Annotated[Table, Meta(description="How the data is dealt: own, even, dirichlet, classes, quantity.")] = named(
        "own"
    )
    federation: Annotated[
        Table, Meta(description="As in the aggregator's file: mode, quorum, deadline, share, buffer, ...")
    ] = {}
    rule: Annotated[Table, Meta(description="As in the aggregator's file.")] = named("fedavg")
    mixing: Annotated[Table | None, Meta(description="As in the aggregator's file.")] = None
    server_optimizer: Annotated[Table | None, Meta(description="As in the aggregator's file. Default: the set's.")] = (
        None
    )
    trust: Annotated[Table | None, Meta(description="As in the aggregator's file. Default: none.")] = None
    attack: Annotated[Table, Meta(description="What hostile sites do.")] = named("sign_flip")
    hostile: Annotated[float, Meta(ge=0, lt=1, description="Share of the sites.")] = 0.0
    stragglers: Annotated[float, Meta(ge=0, le=1, description="Share of the sites.")] = 0.0
    slowness: Annotated[float, Meta(ge=1, description="How many times longer stragglers train.")] = 20.0
    dropouts: Annotated[
        float, Meta(ge=0, lt=1, description="Share of trainings after which a site is away, its update lost.")
    ] = 0.0
    rounds: Annotated[Positive | None, Meta(description="Default: as many as the set's plan has.")] = None
    drift_correction: Annotated[Fraction | None, Meta(description="As in the agent's file. Default: the set's.")] = None
    seed: Annotated[int, Meta(ge=0, description="The same seed, the same bits.")] = 0


def keys() -> dict[str, str]:
    """Return every key with its meaning in one line."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hints[name].__metadata__[-1].description for name in Config.__struct_fields__}


def flagged(flags: Mapping[str, str]) -> Table:
    """Read flags as keys: TOML values, a bare word as text, a word for a table as its name. Raises ConfigError."""
    tables = {"skew", "rule", "mixing", "server_optimizer", "attack"}
    found: Table = {}
    for name, text in flags.items():
        value = _value(name, text)
        found[name] = {"name": value} if name in tables and isinstance(value, str) else value
    if "data" in found:
        found["data"] = str(Path(found["data"]).absolute())  # of the shell's folder, not of the file's
    return found


def read(path: Path | None, flags: Mapping[str, Any]) -> tuple[Config, str]:
    """Read the file, if there is one, under the flags; return it with its name for messages. Raises ConfigError."""
    where = str(path) if path else COMMAND
    table = settings.load(path, dict) if path else {}
    return settings.convert({**table, **flags}, Config, where), where


def _value(name: str, text: str) -> Any:
    if name == "data":
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as e:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise ConfigError(f"{COMMAND}: key {name!r}: {text!r} is not valid TOML: {e}") from e
        return text
