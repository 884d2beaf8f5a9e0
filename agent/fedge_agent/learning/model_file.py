# SPDX-License-Identifier: Apache-2.0
"""Read the model file that a gateway is configured with, as every command reads one, so that all see the same graph.

The file on disk stays as it is. A model that was fetched from an aggregator was taken in there and is signed: it is not
read here.
"""

from __future__ import annotations

from fedge_models.graph.card import Card
from fedge_models.graph.intake import read_card_file, read_model, read_stored_card
from fedge_models.system.malloc import give_back

from ..config.schema import ModelConfig


def configured_model(config: ModelConfig) -> bytes | None:
    """Take in the configured file, with its card; None when no file is configured.

    Raises ModelError when nothing can be made of the file, ConfigError for the card's file.
    """
    if config.file is None:
        return None
    made = read_model(config.file, config.card)
    give_back()  # it was in memory several times
    return made


def configured_card(config: ModelConfig) -> Card | None:
    """The card of the configured file; None when no file is configured. Raises as `configured_model`."""
    if config.file is None:
        return None
    return read_stored_card(config.file) if config.card is None else read_card_file(config.card)
