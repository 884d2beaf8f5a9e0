# SPDX-License-Identifier: Apache-2.0
"""The state of our edge node that outlives a restart: its bdSeq, and which machines are in alarm."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from fedge_models.system import files
from fedge_models.system.structs import known

logger = logging.getLogger(__name__)


@known
class NodeState(msgspec.Struct):
    """What `node.json` holds."""

    bdseq: int = -1  # of the last attempt to connect; -1: none yet
    alerts: dict[str, bool] = {}  # asset -> whether it is in alarm


def load(path: Path) -> NodeState:
    """Load the state; a new one if there is none or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeState)
    except FileNotFoundError:
        return NodeState()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        logger.warning("%s: cannot be read; the edge node begins with bdSeq 0 and without alerts: %s", path, e)
        return NodeState()


def save(path: Path, state: NodeState) -> None:
    """Save the state; it is durable on return. Raises StorageError."""
    files.write_with_folder(path, msgspec.json.encode(state), 0o600)
