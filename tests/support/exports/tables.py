# SPDX-License-Identifier: Apache-2.0
"""Networks on the features of a window: perceptrons, autoencoders, heads of several kinds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from support.counterparts import counterpart

from .network import Network

torch = counterpart("torch")
nn, functional = torch.nn, torch.nn.functional
Module: Any = nn.Module
WIDTH = 12


def layers(*widths: int, act: Any = nn.ReLU, norm: bool = False, dropout: float = 0.0) -> list[Any]:
    """Linear layers with an activation behind each but the last."""
    made: list[Any] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        made.append(nn.Linear(a, b))
        if i < len(widths) - 2:
            made += [*([nn.BatchNorm1d(b)] if norm else []), act(), *([nn.Dropout(dropout)] if dropout else [])]
    return made


class Variational(Module):  # type: ignore[misc]
    """A variational autoencoder (Kingma and Welling 2014); `whole`: with the mean and the variance as outputs."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole, self.encoder = whole, nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(16, 3), nn.Linear(16, 3)
        self.decoder = nn.Sequential(*layers(3, 16, WIDTH))

    def forward(self, x: Any) -> Any:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance) if self.training else mean
        return (self.decoder(z), mean, log_variance) if self.whole else self.decoder(z)


class ResidualBlock(Module):  # type: ignore[misc]
    """Of a tabular ResNet (Gorishniy et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, width))

    def forward(self, x: Any) -> Any:
        return x + self.inner(x)


class Wide(Module):  # type: ignore[misc]
    """Wide and deep (Cheng et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Linear(WIDTH, 3), nn.Sequential(*layers(WIDTH, 16, 8, 3))

    def forward(self, x: Any) -> Any:
        return self.wide(x) + self.deep(x)


class Tasks(Module):  # type: ignore[misc]
    """Two tasks on one trunk; `joined`: as one output, else as two."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.joined, self.trunk = joined, nn.Sequential(*layers(WIDTH, 16, 8), nn.ReLU())
        self.wear, self.load = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: Any) -> Any:
        h = self.trunk(x)
        both = self.wear(h), self.load(h)
        return torch.cat(both, dim=1) if self.joined else both


class Quantiles(Module):  # type: ignore[misc]
    """Three quantiles that cannot cross."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU()), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        y = self.head(self.trunk(x))
        return torch.cat([y[:, :1], y[:, :1] + torch.cumsum(functional.softplus(y[:, 1:]), dim=1)], dim=1)


class Twins(Module):  # type: ignore[misc]
    """A siamese network: one encoder for the two halves of the input, compared (Bromley et al. 1993)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Sequential(*layers(WIDTH // 2, 16, 8)), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        a, b = x.chunk(2, dim=1)
        return self.head((self.encoder(a) - self.encoder(b)).abs())


class Prototypes(Module):  # type: ignore[misc]
    """An embedding of length one, and its cosine to a prototype of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.prototypes = nn.Sequential(*layers(WIDTH, 16, 8)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Any) -> Any:
        return 8 * functional.normalize(self.encoder(x)) @ functional.normalize(self.prototypes).T


class Scaled(Module):  # type: ignore[misc]
    """A perceptron with the scaler of the training data in front, as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.linspace(-1, 1, WIDTH))
        self.register_buffer("scale", torch.linspace(1, 3, WIDTH))
        self.net = nn.Sequential(*layers(WIDTH, 16, 3))

    def forward(self, x: Any) -> Any:
        return self.net((x - self.mean) / self.scale)


class Gated(Module):  # type: ignore[misc]
    """A mixture of three experts with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(WIDTH, 3), nn.ModuleList(nn.Linear(WIDTH, 3) for _ in range(3))

    def forward(self, x: Any) -> Any:
        weights = torch.softmax(self.gate(x), dim=1)
        return (torch.stack([e(x) for e in self.experts], dim=1) * weights.unsqueeze(-1)).sum(dim=1)


class OneValue(Module):  # type: ignore[misc]
    """A regression whose last axis is squeezed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers(WIDTH, 16, 1))

    def forward(self, x: Any) -> Any:
        return self.net(x).squeeze(-1)


TABLES = {
    "MLP": Network("table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 8, 3))),
    "MLP, BatchNorm and Dropout": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 8, 3, norm=True, dropout=0.2))
    ),
    "MLP, LayerNorm and GELU": Network(
        "table", (WIDTH,),
        lambda: nn.Sequential(nn.Linear(WIDTH, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3)),
    ),
    "MLP, SELU and weight norm": Network(
        "table", (WIDTH,),
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, 16)), nn.SELU(), nn.AlphaDropout(0.1),
            nn.Linear(16, 3),
        ),
    ),
    "MLP ending in Softmax": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 3), nn.Softmax(1)), gives="probabilities"
    ),
    "MLP, one logit": Network("table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 1)), labels=("ok", "bad")),
    "MLP, one sigmoid": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 1), nn.Sigmoid()), labels=("ok", "bad"),
        gives="probabilities",
    ),
    "MLP, several labels at once": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 3)), several=True
    ),
    "MLP, a sigmoid for each label": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 3), nn.Sigmoid()), gives="probabilities",
        several=True,
    ),
    "MLP, remaining life": Network("table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 16, 1)), 1),
    "MLP, remaining life, squeezed": Network("table", (WIDTH,), OneValue, 1),
    "MLP with its scaler": Network("table", (WIDTH,), Scaled),
    "tabular ResNet": Network(
        "table", (WIDTH,),
        lambda: nn.Sequential(nn.Linear(WIDTH, 16), ResidualBlock(16), ResidualBlock(16), nn.Linear(16, 3)),
    ),
    "wide and deep": Network("table", (WIDTH,), Wide),
    "mixture of experts": Network("table", (WIDTH,), Gated),
    "autoencoder": Network("table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 8, 3, 8, WIDTH)), -1),
    "autoencoder, BatchNorm": Network(
        "table", (WIDTH,), lambda: nn.Sequential(*layers(WIDTH, 8, 3, 8, WIDTH, act=nn.Tanh, norm=True)), -1
    ),
    "VAE": Network("table", (WIDTH,), lambda: Variational(False), -1),
    "VAE, three outputs": Network("table", (WIDTH,), lambda: Variational(True), -1),
    "quantile heads": Network("table", (WIDTH,), Quantiles, 3),
    "two tasks, one output": Network("table", (WIDTH,), lambda: Tasks(True), 3, head="wear.*,load.*"),
    "two tasks, two outputs": Network("table", (WIDTH,), lambda: Tasks(False), 3, head="wear.*,load.*"),
    "siamese, halves of one input": Network("table", (WIDTH,), Twins, shared=("encoder.*",)),
    "embedding and prototypes": Network("table", (WIDTH,), Prototypes, head="prototypes*"),  # or its norm
}  # fmt: skip
