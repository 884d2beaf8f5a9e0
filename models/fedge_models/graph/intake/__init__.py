# SPDX-License-Identifier: Apache-2.0
"""Complete a model file as a user gives it: one self-contained ONNX file with a card; it is trained in `trainable`."""

from .file import read_capped
from .layout import check_fed
from .memory import PROBE_BYTES, bounded_memory, room_for
from .read import MAX_IR, read_card_file, read_model, read_stored_card, stored_notes, with_weights

__all__ = [
    "MAX_IR",
    "PROBE_BYTES",
    "bounded_memory",
    "check_fed",
    "read_capped",
    "read_card_file",
    "read_model",
    "read_stored_card",
    "room_for",
    "stored_notes",
    "with_weights",
]
