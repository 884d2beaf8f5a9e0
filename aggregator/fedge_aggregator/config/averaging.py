# SPDX-License-Identifier: Apache-2.0
"""How a federation averages, from its table in the configuration."""

from __future__ import annotations

from ..rounds import central_privacy, server_optimizers
from ..rounds.average import Averaging
from ..rounds.rules.registry import build_pipeline
from .schema import FederationConfig


def build_averaging(config: FederationConfig, where: str, prefix: str = "") -> Averaging:
    """Rule, mixing, server optimiser, trust and privacy of a federation.

    where: the file or federation that messages name; prefix: of the table's keys in that file.
    Raises ConfigError for a part that does not exist, or parts that do not go together.
    """
    rule, mixing = config.pipeline()
    pipeline = build_pipeline(rule, mixing, where, prefix)
    optimizer = server_optimizers.build(config.server_optimizer, where, f"{prefix}server_optimizer")
    if config.privacy is not None:
        central_privacy.check(config.privacy, rule, mixing, f"{where}: key '{prefix}privacy'")
    return Averaging(
        name=" after ".join(str(table["name"]) for table in (rule, mixing) if table),
        pipeline=pipeline,
        optimizer=optimizer,
        trust=config.trust,
        privacy=config.privacy,
        staleness_exponent=config.staleness_exponent,
    )
