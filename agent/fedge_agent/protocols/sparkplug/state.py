"""What an edge node of ours must know again after a restart: its bdSeq, and which machines' alerts are open."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from fedge_models.system import files
from fedge_models.system.structs import known

logger = logging.getLogger(__name__)


@known
class Kept(msgspec.Struct):
    """`bdseq`: of the last connection that was tried; -1: none yet."""

    bdseq: int = -1
    alerts: dict[str, bool] = {}


def load(path: Path) -> Kept:
    """What was kept; anew when there is none, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        logger.warning("%s: cannot be read, the edge node begins with bdSeq 0 and no alert: %s", path, e)
        return Kept()


def save(path: Path, kept: Kept) -> None:
    """Durable on return. Raises StorageError."""
    files.write(path, msgspec.json.encode(kept), 0o600)
