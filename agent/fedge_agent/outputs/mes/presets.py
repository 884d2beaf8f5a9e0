# SPDX-License-Identifier: Apache-2.0
"""The steps of known systems, as data. `generic` suits a plain REST service.

tryton, tryton-jsonrpc: Tryton 8.2, roundup: Roundup 2.6; tests run them against the real servers. The recipes of
docs/automation-engineer/connectors/output-mes.md for systems that cannot be installed here are not presets.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import settings
from fedge_models.system.choices import hint

from . import b2mml
from .settings import MesConfig, Step

_STEPS = ("find", "token", "create", "escalate", "clear", "status")
_RAISED = "{time}: severity is now {severity}. {summary}"
_CLEARED = "{time}: {outcome}"

_GENERIC = {
    "create": {
        "body": {
            "reference": "{key}",
            "asset": "{asset}",
            "description": "{summary}",
            "severity": "{severity}",
            "detected_at": "{time}",
            "score": "{score}",
        }
    }
}


def _tryton_note(text: str) -> dict[str, Any]:
    return {
        "url": "/rest/model/ir.note",
        "query": {"f": "id"},
        "body": {"resource": "production,{id}", "message": text},
    }


_TRYTON = {
    "headers": {"X-Tryton-Context": {"base64": {"company": 1, "companies": [1]}}},
    "find": {
        "method": "GET",
        "url": "/rest/model/production",
        "query": {"d": {"base64": [["reference", "=", "{key}"]]}, "f": ["reference"], "s": "10"},
        "rows": "",
        "key": "/reference",
        "id": "/id",
    },
    "create": {
        "url": "/rest/model/production",
        "query": {"f": ["reference"]},
        "body": {"reference": "{key}"},  # its state is then "draft"
        "id": "/id",
    },
    "escalate": _tryton_note(_RAISED),
    "clear": _tryton_note(_CLEARED),
    "status": {"method": "GET", "url": "/rest/model/production/{id}", "query": {"f": ["state"]}, "code": "/state"},
}


def _rpc(method: str, *params: Any, **pointers: Any) -> dict[str, Any]:
    return {"body": {"id": 1, "method": method, "params": [*params, "{session}"]}, "error": "/error", **pointers}


_TRYTON_JSONRPC = {
    "find": _rpc(
        "model.production.search_read",
        [["reference", "=", "{key}"]],
        0,
        10,
        None,
        ["reference"],
        rows="/result",
        key="/reference",
        id="/id",
    ),
    "create": _rpc("model.production.create", [{"reference": "{key}"}], id="/result/0"),
    "escalate": _rpc("model.ir.note.create", [{"resource": "production,{id}", "message": _RAISED}]),
    "clear": _rpc("model.ir.note.create", [{"resource": "production,{id}", "message": _CLEARED}]),
    "status": _rpc("model.production.read", ["{id}"], ["state"], code="/result/0/state"),
}


def _roundup_note(text: str) -> dict[str, Any]:
    return {
        "url": "/rest/data/msg",
        "body": {"content": text, "author": "{username}"},
        "save": {"message": "/data/id"},
        "then": {
            "method": "GET",
            "url": "/rest/data/issue/{id}",
            "save": {"etag": "/data/@etag"},
            "then": {
                "method": "PATCH",
                "url": "/rest/data/issue/{id}",
                "body": {"@op": "add", "@etag": "{saved.etag}", "messages": ["{saved.message}"]},
            },
        },
    }


_ROUNDUP_TITLE = "Check {asset} ({key})"
_ROUNDUP = {
    "headers": {"X-Requested-With": "fedge", "Origin": "{origin}"},
    "find": {
        "method": "GET",
        "url": "/rest/data/issue",
        "query": {"title": _ROUNDUP_TITLE, "@fields": "title", "@page_size": "10"},
        "rows": "/data/collection",
        "key": "/title",
        "match": _ROUNDUP_TITLE,
        "id": "/id",
        "error": "/error",
    },
    "token": {"url": "/rest/data/issue/@poe", "body": {}, "id": "/data/link"},
    "create": {"url": "{token}", "body": {"title": _ROUNDUP_TITLE, "status": "unread"}, "id": "/data/id"},
    "escalate": _roundup_note(_RAISED),
    "clear": _roundup_note(_CLEARED),
    "status": {
        "method": "GET",
        "url": "/rest/data/issue/{id}",
        "query": {"@fields": "status", "@verbose": "2"},
        "code": "/data/attributes/status/name",
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    "generic": _GENERIC,
    "tryton": _TRYTON,
    "tryton-jsonrpc": _TRYTON_JSONRPC,
    "roundup": _ROUNDUP,
}


def complete(config: MesConfig, where: str) -> MesConfig:
    """The configuration, completed with the steps of its preset. Raises ConfigError for an unknown preset."""
    if config.preset not in PRESETS:
        raise ConfigError(f"{where}.preset: no preset {config.preset!r}; {hint(config.preset, PRESETS)}")
    preset = PRESETS[config.preset]
    steps = {
        n: settings.convert(preset[n], Step, where, n) for n in _STEPS if n in preset and getattr(config, n) is None
    }
    if config.format == "b2mml":
        create = config.create or steps["create"]
        steps["create"] = msgspec.structs.replace(create, body=b2mml.WORK_REQUEST)
        if config.ask is None:
            steps["ask"] = msgspec.structs.replace(create, body=b2mml.INSPECTION)
    headers = {**preset.get("headers", {}), **config.headers}
    return msgspec.structs.replace(config, headers=headers, **steps)
