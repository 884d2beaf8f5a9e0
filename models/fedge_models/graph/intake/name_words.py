# SPDX-License-Identifier: Apache-2.0
"""What the words in a tensor's name say: a statistic of data (`y_std`, `scaler.lo`), or what is learnt (`gamma`)."""

from __future__ import annotations

import re

WORD = re.compile(r"[A-Za-z][a-z]*")
MEASURED = {
    "average", "avg", "center", "centers", "centre", "centres", "fill", "fills", "hi", "high", "iqr", "lo",
    "low", "lower", "max", "maxima", "maximum", "mean", "means", "median", "medians", "min", "minima",
    "minimum", "normaliser", "normalizer", "percentile", "quantile", "quantiles", "range", "ranges", "scaler",
    "sd", "standardiser", "standardizer", "std", "stddev", "stdev", "stds", "upper", "var", "variance", "vars",
}  # fmt: skip
PERHAPS = {"mu", "mus", "offset", "sigma", "sigmas"}  # of a distribution, too, that is learnt
LEARNT = {
    "affine", "alpha", "attn", "b", "beta", "betas", "bias", "biases", "embed", "embedding", "embeddings",
    "gain", "gains", "gamma", "gammas", "gate", "gates", "head", "kernel", "knot", "knots", "learnable",
    "learned", "learnt", "logit", "param", "pos", "position", "positions", "prompt", "query", "slope", "temp",
    "temperature", "theta", "threshold", "thresholds", "token", "tokens", "w", "weight", "weights",
}  # fmt: skip
VARIABLE = "ReadVariableOp"  # how TensorFlow calls what its layers read


def is_measured(name: str, perhaps: bool = False) -> bool:
    """Whether the name says that somebody measured it; perhaps: also where the word has other meanings."""
    words = {*_words(name)}
    return not says_learnt(name) and not words.isdisjoint(MEASURED | PERHAPS if perhaps else MEASURED)


def says_learnt(name: str) -> bool:
    """Whether its last part says that it is learnt."""
    return VARIABLE in name or not LEARNT.isdisjoint(_words(name.rpartition(".")[2]))


def _words(name: str) -> list[str]:
    return [w.lower() for w in WORD.findall(name)]
