"""Which outputs there are. To add one: a file here and a line below; the module is imported when it is used."""

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
    """The output `name` from its table. Raises ConfigError naming file and key."""
    output: Output = build_plugin(OUTPUTS, "output", name, table, where, state)
    return output
