# SPDX-License-Identifier: Apache-2.0
"""The card of a model that is here, for commands that have no agent to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedge_models.errors import FedgeError

from ..config.schema import Config

if TYPE_CHECKING:
    from fedge_models.graph.card import Card


def card_of(config: Config, model: str) -> Card | None:
    """The card of the model as it was fetched, or of the file that is configured; None when neither can be read."""
    from fedge_models.graph.intake import read_stored_card

    from ..learning.model_file import configured_card

    fetched = config.agent.state / "models" / model / "graph.onnx"
    try:
        return read_stored_card(fetched) if fetched.exists() else configured_card(config.model[model])
    except (OSError, FedgeError):
        return None
