# SPDX-License-Identifier: Apache-2.0
"""An event as a work request of B2MML-JSON, version 0701: the JSON form of ISA-95 part 4's work schedule model.

Source: MESA International, B2MML-BatchML, ``Schema/AllSchemas.json``: ``WorkRequestType``, ``JobOrderType`` and what is
in them, where a value is ``{"$": …}``. (B2MML-JSON is used courtesy of MESA International.) One job order of work type
Maintenance for the asset; what the model measured goes into its parameters. It carries no dispatch
status and no command: releasing the work is the receiver's decision. Parameters are text; priority is 1 (high) to 3.
"""

from __future__ import annotations

from typing import Any


def _parameter(name: str, value: str) -> dict[str, Any]:
    return {"ID": {"$": name}, "Value": [{"ValueString": {"$": value}}]}


_SCOPE = {"EquipmentID": {"$": "{asset}"}}
_MAINTENANCE = {"$": "Maintenance"}

WORK_REQUEST: dict[str, Any] = {
    "WorkRequest": {
        "ID": {"$": "{key}"},
        "Description": [{"$": "{summary}"}],
        "WorkType": _MAINTENANCE,
        "Priority": {"$": "{priority}"},
        "HierarchyScope": _SCOPE,
        "JobOrder": [
            {
                "ID": {"$": "{key}:1"},
                "WorkType": _MAINTENANCE,
                "Priority": {"$": "{priority}"},
                "HierarchyScope": _SCOPE,
                "JobOrderParameter": [
                    _parameter("state", "{state}"),
                    _parameter("detectedAt", "{time}"),
                    _parameter("label", "{label}"),
                    _parameter("severity", "{severity}"),
                    _parameter("score", "{score:s}"),
                    _parameter("threshold", "{threshold:s}"),
                    _parameter("model", "{model}"),
                    _parameter("release", "{release:s}"),
                ],
            }
        ],
    }
}
