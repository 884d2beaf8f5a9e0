# SPDX-License-Identifier: Apache-2.0
"""The model card: what a file's input and output are, how it is trained, and what stays at a site."""

from ..channels import Channel, Derived
from .metadata import METADATA_KEY, decode_card, encode_card, read_card, write_card
from .spec import (
    DEFAULT_LOSSES,
    LABEL_LIMIT,
    LOSSES,
    MAX_LENGTH,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    NONE,
    SEPARATOR,
    Card,
    ImageSpec,
    InputSpec,
    Objective,
    Target,
    Task,
    WindowSpec,
)

__all__ = [
    "DEFAULT_LOSSES",
    "LABEL_LIMIT",
    "LOSSES",
    "MAX_LENGTH",
    "MAX_RATE_HZ",
    "METADATA_KEY",
    "MIN_RATE_HZ",
    "NONE",
    "SEPARATOR",
    "Card",
    "Channel",
    "Derived",
    "ImageSpec",
    "InputSpec",
    "Objective",
    "Target",
    "Task",
    "WindowSpec",
    "decode_card",
    "encode_card",
    "read_card",
    "write_card",
]
