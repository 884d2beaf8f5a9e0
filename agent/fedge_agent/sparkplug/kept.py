"""What an edge node of ours must know again after a restart: its bdSeq, and which machines' alerts are open."""

from __future__ import annotations

from pathlib import Path

import msgspec
from fedge_models import files
from fedge_models.errors import ConfigError, StorageError


class Kept(msgspec.Struct):
    """`bdseq`: of the last connection that was tried; -1: none yet."""

    bdseq: int = -1
    alerts: dict[str, bool] = {}


def load(path: Path) -> Kept:
    """What was kept; anew when there is none. Raises ConfigError for a file that is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError) as e:
        raise ConfigError(
            f"{path}: cannot be read as the state of an edge node: {e}; remove it to begin with bdSeq 0"
        ) from e


def save(path: Path, kept: Kept) -> None:
    """Durable on return. Raises StorageError."""
    try:
        files.make_folder(path.parent)
    except OSError as e:
        raise StorageError(f"{path.parent}: cannot be made: {e.strerror}") from e
    files.write(path, msgspec.json.encode(kept), 0o600)
