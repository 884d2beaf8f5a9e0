# SPDX-License-Identifier: Apache-2.0
"""One federation on recorded (or simulated) data: sites, card, model, how it trains and what is scored.

Rates, rounds and sizes of the sets with a validation cut were compared on that cut: whole groups (experiments, tool
runs, cells, modules, engines) taken out of the training part (`benchmarks/accuracy.py --validate`). The test scores
were seen between such comparisons and led to further ones for liion, elpv and xsdd. nab, fan, mfpt and
skab_experiments have no such cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from fedge_agent.windows.features import Preparation, input_count
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, write_card
from fedge_models.training.config import TrainingConfig
from numpy.typing import NDArray

from ..member import Plan
from ..site_data import Windows, pooled

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """One federation on recorded data."""

    name: str
    sites: dict[str, Windows]  # not yet standardised
    card: Card
    model: Callable[[int], bytes]  # by seed
    metric: str  # of `training.evaluate`
    plan: Plan
    alone: Plan  # of a site alone
    central: Plan  # of all data in one place
    pooled: bool = False  # score: of all sites' test rows together, not the mean over the sites
    validation: dict[str, Bools] = field(default_factory=dict)  # of the training part, for choosing
    unseen: bool = False  # leave one site out: the score is what the others' model does there

    @property
    def error(self) -> bool:
        """Whether the score is an error: less is better."""
        return self.metric == "rmse"

    def validating(self) -> Problem:
        """Return the same problem with the validation cut in place of the test part, which is removed."""
        sites = {}
        for name, site in self.sites.items():
            cut, keep = self.validation[name], ~site.test
            sites[name] = Windows(site.x[keep], site.y[keep], cut[keep], site.held[keep])
        return replace(self, sites=sites)

    def keeping(self, local: str, start: Literal["file", "shared"] = "file") -> Problem:
        """Return the same problem with other tensors that stay at the sites, and their start (keys as in the card)."""
        fields = {f: getattr(self.card, f) for f in self.card.__struct_fields__}
        card = Card(**{**fields, "local": local, "local_start": start})

        def model(seed: int) -> bytes:
            import onnx

            made = onnx.load_from_string(self.model(seed))
            write_card(made, card)
            return made.SerializeToString()

        return replace(self, card=card, model=model)


def plan(
    rounds: int,
    epochs: int = 5,
    rate: float = 0.003,
    mu: float = 0.0,
    halving: int = 0,
    max_samples: int = 10_000,
    correction: float = 1.0,
    batch: int = 32,
    clip: float = 0.0,
    decay: float = 0.0,
) -> Plan:
    """A plan with Adam; with weight decay, AdamW."""
    training = TrainingConfig(
        batch=batch,
        epochs=epochs,
        optimizer="adamw" if decay else "adam",
        learning_rate=rate,
        proximal_mu=mu,
        clip_norm=clip,
        weight_decay=decay,
    )
    return Plan(rounds, training, halving, correction, max_samples)


def ready(values: Array, y: NDArray[np.generic], test: Bools, card: Card) -> Windows:
    """Take windows that are cut already, as a gateway would pass them to its model."""
    labels = y.astype(np.float32 if card.task == "regress" else np.int64)
    return Windows(Preparation(card)(values), labels, test, np.zeros(len(y), np.bool_))


def joined(parts: list[Windows]) -> Windows:
    """Join several recordings into one site."""
    return pooled({str(i): p for i, p in enumerate(parts)})


def anomalies(
    name: str, sites: dict[str, Windows], card: Card, validation: dict[str, Bools], hidden: int = 8
) -> Problem:
    """Build a federation of autoencoders that train on normal windows, as all anomaly sets here do."""
    inputs, how = input_count(card), plan(12)
    return Problem(
        name,
        sites,
        card,
        lambda seed: zoo.autoencoder(card, inputs, (hidden,), seed).SerializeToString(),
        "auroc",
        how,
        how,
        how,
        validation=validation,
    )
