# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks and transformers: time before channels, as in PyTorch with `batch_first`."""

from __future__ import annotations

import math
from typing import Any

from support.counterparts import counterpart

from .network import Network

torch = counterpart("torch")
nn = torch.nn
Module: Any = nn.Module
TIME, CHANNELS, WIDTH = 12, 4, 8


class Last(Module):  # type: ignore[misc]
    """A recurrent layer, and a layer on its last moment."""

    def __init__(self, layer: Any, width: int = WIDTH) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)[0][:, -1])


class Hidden(Module):  # type: ignore[misc]
    """An LSTM with initial states of zeros made by hand, read by its last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(CHANNELS, WIDTH, 2, batch_first=True, dropout=0.1), nn.Linear(WIDTH, 3)

    def forward(self, x: Any) -> Any:
        zeros = torch.zeros(2, x.size(0), WIDTH, dtype=x.dtype)
        _, (h, _) = self.lstm(x, (zeros, zeros))
        return self.head(h[-1])


class SequenceAutoencoder(Module):  # type: ignore[misc]
    """An LSTM that reads, one that writes (Malhotra et al. 2016); `first`: time before channels."""

    def __init__(self, first: bool = True) -> None:
        super().__init__()
        self.first = first
        self.encoder = nn.LSTM(CHANNELS, WIDTH, batch_first=True)
        self.decoder = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.out = nn.Linear(WIDTH, CHANNELS)

    def forward(self, x: Any) -> Any:
        x = x if self.first else x.transpose(1, 2)
        _, (h, _) = self.encoder(x)
        y = self.out(self.decoder(h[-1].unsqueeze(1).repeat(1, x.size(1), 1))[0])
        return y if self.first else y.transpose(1, 2)


class Attended(Module):  # type: ignore[misc]
    """Additive attention over the moments of an LSTM (Bahdanau et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(CHANNELS, WIDTH, batch_first=True, bidirectional=True)
        self.score, self.head = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head((torch.softmax(self.score(y), dim=1) * y).sum(dim=1))


class Cells(Module):  # type: ignore[misc]
    """A GRU cell in a loop that the exporters unroll."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(CHANNELS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Any) -> Any:
        h = torch.zeros(x.shape[0], WIDTH, dtype=x.dtype)
        for t in range(6):
            h = self.cell(x[:, t], h)
        return self.head(h)


class Positions(Module):  # type: ignore[misc]
    """Sines and cosines of the moment (Vaswani et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        t, f = torch.arange(TIME)[:, None], torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        table = torch.zeros(1, TIME, width)
        table[0, :, 0::2], table[0, :, 1::2] = torch.sin(t * f), torch.cos(t * f)
        self.register_buffer("table", table)

    def forward(self, x: Any) -> Any:
        return x + self.table[:, : x.size(1)]


class Encoder(Module):  # type: ignore[misc]
    """A Transformer encoder of two layers, averaged over time."""

    def __init__(self, first: bool = True, causal: bool = False, learnt: bool = False, **more: Any) -> None:
        super().__init__()
        self.first, self.causal = first, causal
        self.embed, self.positions = nn.Linear(CHANNELS, 16), nn.Identity() if learnt else Positions(16)
        self.table = nn.Parameter(0.02 * torch.randn(1, TIME, 16)) if learnt else None
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=first, **more)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        y = self.positions(self.embed(x))
        y = y if self.table is None else y + self.table
        mask = nn.Transformer.generate_square_subsequent_mask(TIME, dtype=x.dtype) if self.causal else None
        y = self.encoder(y if self.first else y.transpose(0, 1), mask=mask, is_causal=self.causal)
        return self.head(y.mean(dim=1 if self.first else 0))


class ClassToken(Module):  # type: ignore[misc]
    """A Transformer read at a learnt first token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Linear(CHANNELS, 16), nn.Parameter(torch.randn(1, 1, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, activation="gelu")
        self.head = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], dim=1)
        return self.head(self.encoder(tokens)[:, 0])


class TimeFirst(Module):  # type: ignore[misc]
    """PyTorch's default: (time, batch, channels). A gateway gives the batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(CHANNELS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x.transpose(0, 1))[0][-1])


class Forecast(Module):  # type: ignore[misc]
    """DLinear: trend and rest, a layer over time for each (Zeng et al. 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.AvgPool1d(5, 1, 2, count_include_pad=False)
        self.trend, self.rest = nn.Linear(TIME, 1), nn.Linear(TIME, 1)

    def forward(self, x: Any) -> Any:
        x = x.transpose(1, 2)
        trend = self.mean(x)
        return (self.trend(trend) + self.rest(x - trend)).squeeze(-1)


def _series(make: Any, outputs: int = 0, **more: Any) -> Network:
    return Network("series", (TIME, CHANNELS), make, outputs, **more)


SERIES = {
    "RNN": _series(lambda: Last(nn.RNN(CHANNELS, WIDTH, batch_first=True))),
    "LSTM": _series(lambda: Last(nn.LSTM(CHANNELS, WIDTH, batch_first=True))),
    "LSTM, two layers, states by hand": _series(Hidden),
    "BiLSTM": _series(lambda: Last(nn.LSTM(CHANNELS, WIDTH, batch_first=True, bidirectional=True), 16)),
    "GRU": _series(lambda: Last(nn.GRU(CHANNELS, WIDTH, batch_first=True))),
    "GRU, two layers, both ways": _series(
        lambda: Last(nn.GRU(CHANNELS, WIDTH, 2, batch_first=True, bidirectional=True), 16)
    ),
    "GRU inside time first": _series(TimeFirst),
    "GRU cell in a loop": _series(Cells),
    "LSTM autoencoder": _series(SequenceAutoencoder, -1),
    "LSTM autoencoder, channels first": Network("wave", (CHANNELS, TIME), lambda: SequenceAutoencoder(first=False), -1),
    "attention over a BiLSTM": _series(Attended),
    "Transformer, batch_first": _series(Encoder),
    "Transformer, time first inside": _series(lambda: Encoder(first=False)),
    "Transformer, causal": _series(lambda: Encoder(causal=True, norm_first=True)),
    "Transformer, learnt positions": _series(lambda: Encoder(learnt=True)),
    "Transformer, class token": _series(ClassToken),
    "DLinear": _series(Forecast, 4),
}
