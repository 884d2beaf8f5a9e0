# SPDX-License-Identifier: Apache-2.0
"""The types of outputs. To add one, write a file here and a line below; its module is imported when it is used."""

from __future__ import annotations

from pathlib import Path

from ..config.plugins import build as build_plugin
from ..types import Output, Table

OUTPUTS: dict[str, str] = {
    "log": "fedge_agent.outputs.log:LogOutput",
    "mqtt": "fedge_agent.outputs.mqtt:MqttOutput",
    "webhook": "fedge_agent.outputs.webhook:WebhookOutput",
    "mes": "fedge_agent.outputs.mes.output:MesOutput",
    "sparkplug": "fedge_agent.outputs.sparkplug:SparkplugOutput",
    "opcua": "fedge_agent.outputs.opcua:OpcuaOutput",
    "opcua-server": "fedge_agent.outputs.opcua_server:OpcuaServerOutput",
}


def build(name: str, table: Table, where: str, state: Path | None = None) -> Output:
    """Build the output `name` from its table. Raises ConfigError that names file and key."""
    output: Output = build_plugin(OUTPUTS, "output", name, table, where, state)
    return output
