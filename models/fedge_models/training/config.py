# SPDX-License-Identifier: Apache-2.0
"""The keys of a training: names, bounds and defaults, once for the library, the agent's configuration and the commands.

Struct fields carry their bounds as `msgspec.Meta`, so a TOML file is checked while it is decoded; made in Python, the
struct checks itself. The choices of `optimizer` and `schedule` are the keys of their registries.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES

NotNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Epochs = Annotated[int, Meta(ge=0)]
OptimizerName = Annotated[str, Meta(extra_json_schema={"enum": [*OPTIMIZERS]})]
ScheduleName = Annotated[str, Meta(extra_json_schema={"enum": [*SCHEDULES]})]


class TrainingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to train. Raises ValueError for a value outside its bounds, or a name that is no choice."""

    batch: Annotated[int, Meta(ge=1)] = 32  # rows a step
    epochs: Epochs = 5
    optimizer: OptimizerName = "adam"
    learning_rate: NotNegative = 0.001
    schedule: ScheduleName = "constant"  # of the learning rate within one training
    warmup: Fraction = 0.0  # of one training's steps, over which the learning rate rises to full
    momentum: Fraction = 0.9  # of sgd
    weight_decay: NotNegative = 0.01  # of adamw
    # Weight of mu/2 |w - w0|^2, which pulls towards the weights before training (FedProx: Li et al. 2020).
    proximal_mu: NotNegative = 0.0
    clip_norm: NotNegative = 0.0  # largest length of each batch's gradient (Euclidean); 0: no clipping

    def __post_init__(self) -> None:
        for name, bound in bounds(type(self)).items():
            check(name, getattr(self, name), bound)


@lru_cache(maxsize=16)
def bounds(struct: type[msgspec.Struct]) -> dict[str, Meta]:
    """The bounds of a struct's fields, by name; fields without any are left out."""
    hints = get_type_hints(struct, include_extras=True)
    metas = {n: next((a for a in get_args(h) if isinstance(a, Meta)), None) for n, h in hints.items() if _bounded(h)}
    return {name: meta for name, meta in metas.items() if meta is not None}


def choices(bound: Meta) -> list[str]:
    """The names that a field may have; empty for a number."""
    return list((bound.extra_json_schema or {}).get("enum", ()))


def check(name: str, value: Any, bound: Meta) -> None:
    """Raise ValueError when a value lies outside its bounds."""
    known = choices(bound)
    if known and value not in known:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(known)}")
    low, high = (-math.inf if bound.ge is None else bound.ge), (math.inf if bound.le is None else bound.le)
    if not known and not low <= value <= high:
        raise ValueError(f"{name} {value!r}: expected {low} " + (f"to {high}" if bound.le is not None else "or more"))


def _bounded(hint: Any) -> bool:
    return get_origin(hint) is Annotated
