# SPDX-License-Identifier: Apache-2.0
"""What an asset resumes from after a restart, besides the readings in the inbox."""

from __future__ import annotations

import logging

import msgspec
from fedge_models.system.structs import known

from ..types import AlertState, SilenceState
from .run_limit import RunState

logger = logging.getLogger(__name__)


@known
class Checkpoint(msgspec.Struct, frozen=True):
    """The state of one asset after its newest decision."""

    start_ns: int | float | None  # when its next window begins; a float before it was exact
    alert: AlertState
    context: dict[str, str] = {}  # the last known: its tags may not be sent again
    silence: SilenceState = SilenceState()
    run: RunState = RunState()

    def encode(self) -> bytes:
        """Encode for the inbox."""
        return msgspec.json.encode(self)


def decode(asset: str, checkpoint: bytes | None) -> Checkpoint | None:
    """A stored checkpoint; None when there is none, or a bad disk has changed it."""
    try:
        return None if checkpoint is None else msgspec.json.decode(checkpoint, type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        logger.error("asset %s: its checkpoint cannot be read (%s); windows begin again", asset, e)
        return None
