# SPDX-License-Identifier: Apache-2.0
"""The types of sources. To add one, write a file here and a line below; its module is imported when it is used."""

from __future__ import annotations

from pathlib import Path

from ..config.plugins import build as build_plugin
from ..types import Source, Table

SOURCES: dict[str, str] = {
    "camera": "fedge_agent.sources.camera:CameraSource",
    "http": "fedge_agent.sources.http:HttpSource",
    "files": "fedge_agent.sources.files:FilesSource",
    "images": "fedge_agent.sources.images:ImagesSource",
    "mqtt": "fedge_agent.sources.mqtt:MqttSource",
    "opcua": "fedge_agent.sources.opcua:OpcuaSource",
    "sparkplug": "fedge_agent.sources.sparkplug:SparkplugSource",
}


def build(name: str, table: Table, where: str, state: Path | None = None) -> Source:
    """Build the source `name` from its table. Raises ConfigError that names file and key."""
    source: Source = build_plugin(SOURCES, "source", name, table, where, state)
    return source
