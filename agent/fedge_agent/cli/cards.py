# SPDX-License-Identifier: Apache-2.0
"""The card of a model that is here, for commands that have no agent to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedge_models.errors import ModelError

from ..config.schema import Config

if TYPE_CHECKING:
    from fedge_models.graph.card import Card


def card_of(config: Config, model: str) -> Card | None:
    """The card of the model as it was fetched, or of the file that is configured; None when neither can be read."""
    from fedge_models.graph.card import read_card
    from fedge_models.graph.intake import read_capped
    from fedge_models.graph.onnx_file import parse

    for path in (config.agent.state / "models" / model / "graph.onnx", config.model[model].file):
        try:
            if path is not None and path.exists():
                return read_card(parse(read_capped(path), str(path), schemas=False), str(path))
        except (OSError, ModelError):
            return None
    return None
