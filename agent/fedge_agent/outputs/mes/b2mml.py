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
_PARAMETERS = {
    "state": "{state}",
    "detectedAt": "{time}",
    "label": "{label}",
    "severity": "{severity}",
    "score": "{score:s}",
    "threshold": "{threshold:s}",
    "model": "{model}",
    "release": "{release:s}",
}


def _request(work: str, parameters: dict[str, str]) -> dict[str, Any]:
    """A work request with one job order of this work type."""
    common = {"WorkType": {"$": work}, "Priority": {"$": "{priority}"}, "HierarchyScope": _SCOPE}
    job = {"ID": {"$": "{key}:1"}, **common, "JobOrderParameter": [_parameter(*p) for p in parameters.items()]}
    return {"WorkRequest": {"ID": {"$": "{key}"}, "Description": [{"$": "{summary}"}], **common, "JobOrder": [job]}}


WORK_REQUEST = _request("Maintenance", _PARAMETERS)
INSPECTION = _request(
    "Quality", {n: v for n, v in _PARAMETERS.items() if n not in ("score", "threshold")}
)  # a question
