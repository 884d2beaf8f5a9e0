# SPDX-License-Identifier: Apache-2.0
"""`rehearse.toml`: what a rehearsal cannot find by its name. Every key may be left out, and so may the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from fedge_agent.types import Table
from fedge_models.system.settings import Positive

FILE = "rehearse.toml"


class SourceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[source.X]`` of every gateway, or ``[gateway.G.source.X]`` of one: what replaces the source."""

    recording: Path | None = None  # table (its last part may be a pattern: "log_*.csv"), or folder of pictures
    columns: dict[str, str] = {}  # channel, "asset.channel" or tag -> column of the table; "": not recorded, left out
    form: Table = {}  # how the table is written, as of a source of type "files"; what is not given is guessed
    rate_hz: Annotated[float, msgspec.Meta(gt=0)] | None = None  # of rows without a time; default: the model's
    picture_interval: Positive | None = None  # between pictures; default: as their times say


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[gateway.G]``: of the gateway with this name."""

    source: dict[str, SourceSettings] = {}


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X]``: the first release of federation X."""

    file: Path | None = None  # ONNX file; default: that of a gateway's [model.X], or X.onnx
    card: Path | None = None  # its model card, as TOML, where the file has none


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    source: dict[str, SourceSettings] = {}
    gateway: dict[str, GatewaySettings] = {}
    model: dict[str, ModelSettings] = {}

    def of(self, gateway: str, source: str) -> SourceSettings:
        """The settings of one source: the gateway's own, or those for all."""
        own = self.gateway.get(gateway, GatewaySettings()).source
        return own.get(source) or self.source.get(source) or SourceSettings()
