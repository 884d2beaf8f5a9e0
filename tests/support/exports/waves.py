# SPDX-License-Identifier: Apache-2.0
"""Networks on raw windows, channels first: convolutions over time."""

from __future__ import annotations

from typing import Any

from support.counterparts import counterpart

from .network import Network

torch = counterpart("torch")
nn = torch.nn
Module: Any = nn.Module
SHAPE = (3, 64)


def block(a: int, b: int, k: int, stride: int = 1, **more: Any) -> Any:
    """Convolution, BatchNorm, ReLU."""
    more.setdefault("padding", k // 2)
    return nn.Sequential(nn.Conv1d(a, b, k, stride, bias=False, **more), nn.BatchNorm1d(b), nn.ReLU())


def pooled(*parts: Any, width: int) -> Any:
    """The mean over time, and a layer."""
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 3))


class Causal(Module):  # type: ignore[misc]
    """A block of a temporal convolutional network: dilated, blind to the future (Bai et al. 2018)."""

    def __init__(self, a: int, b: int, dilation: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.one, self.two = nn.Conv1d(a, b, 3, dilation=dilation), nn.Conv1d(b, b, 3, dilation=dilation)
        self.drop, self.short = nn.Dropout(0.1), nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = self.drop(torch.relu(self.one(self.pad(x))))
        return torch.relu(self.drop(torch.relu(self.two(self.pad(y)))) + self.short(x))


class Chomped(Module):  # type: ignore[misc]
    """The same as it is often written: padded on both sides, the end cut off."""

    def __init__(self, a: int, b: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(a, b, 3, padding=self.cut, dilation=dilation))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.conv(x)[:, :, : -self.cut].contiguous())


class LastStep(Module):  # type: ignore[misc]
    """Blocks, and a layer on the last moment."""

    def __init__(self, *blocks: Any, width: int) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(x)[:, :, -1])


class Residual(Module):  # type: ignore[misc]
    """A block with a shortcut."""

    def __init__(self, inner: Any, shortcut: Any = None) -> None:
        super().__init__()
        self.inner, self.shortcut = inner, shortcut or nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.inner(x) + self.shortcut(x))


def resnet_block(a: int, b: int) -> Any:
    """Of the 1-D ResNet for time series (Wang et al. 2017)."""
    inner = nn.Sequential(block(a, b, 7), block(b, b, 5), nn.Conv1d(b, b, 3, padding=1), nn.BatchNorm1d(b))
    return Residual(inner, nn.Sequential(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b)))


class Inception(Module):  # type: ignore[misc]
    """A module of InceptionTime (Fawaz et al. 2020)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(a, b, 1, bias=False)
        self.parts = nn.ModuleList(nn.Conv1d(b, b, k, padding="same", bias=False) for k in (9, 5, 3))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(a, b, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * b)

    def forward(self, x: Any) -> Any:
        z = self.narrow(x)
        return torch.relu(self.norm(torch.cat([*(p(z) for p in self.parts), self.pooled(x)], dim=1)))


class Excite(Module):  # type: ignore[misc]
    """Squeeze and excitation over channels (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width), nn.Sigmoid())

    def forward(self, x: Any) -> Any:
        return x * self.gate(x.mean(dim=2)).unsqueeze(-1)


def separable(a: int, b: int, stride: int = 1) -> Any:
    """Depthwise and pointwise (Howard et al. 2017)."""
    return nn.Sequential(
        nn.Conv1d(a, a, 3, stride, 1, groups=a, bias=False), nn.BatchNorm1d(a), nn.ReLU6(),
        nn.Conv1d(a, b, 1, bias=False), nn.BatchNorm1d(b), nn.ReLU6(),
    )  # fmt: skip


class UNet(Module):  # type: ignore[misc]
    """A small 1-D U-Net that gives its input again (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = block(3, 8, 5), block(8, 16, 3)
        self.up, self.out = nn.ConvTranspose1d(16, 8, 2, 2), nn.Sequential(block(16, 8, 3), nn.Conv1d(8, 3, 1))

    def forward(self, x: Any) -> Any:
        a = self.down(x)
        b = self.middle(nn.functional.max_pool1d(a, 2))
        return self.out(torch.cat([a, self.up(b)], dim=1))


class Recurrent(Module):  # type: ignore[misc]
    """Convolutions, and an LSTM over what they give (DeepConvLSTM, Ordóñez and Roggen 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(block(3, 8, 5, 2), block(8, 8, 5, 2))
        self.lstm, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(self.conv(x).permute(0, 2, 1))
        return self.head(y[:, -1])


class Patches(Module):  # type: ignore[misc]
    """PatchTST-like: patches of each channel as tokens, channels independent (Nie et al. 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(16, 16), nn.Parameter(0.02 * torch.randn(7, 16))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
        self.head = nn.Linear(3 * 7 * 16, 3)

    def forward(self, x: Any) -> Any:
        p = self.embed(x.unfold(-1, 16, 8)) + self.positions
        y = self.encoder(p.reshape(-1, 7, 16))
        return self.head(y.reshape(x.shape[0], -1))


class Spectrum(Module):  # type: ignore[misc]
    """Energies of a short-time Fourier transform, as convolutions with fixed waves, then a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        n, k = torch.arange(16.0), torch.arange(9.0)[:, None]
        waves = torch.cat([torch.cos(2 * torch.pi * k * n / 16), torch.sin(2 * torch.pi * k * n / 16)])
        self.register_buffer("waves", waves[:, None])
        self.head = nn.Linear(27, 3)

    def forward(self, x: Any) -> Any:
        y = nn.functional.conv1d(x.reshape(-1, 1, x.shape[-1]), self.waves, stride=8)
        energy = (y[:, :9] ** 2 + y[:, 9:] ** 2).mean(dim=-1)
        return self.head(torch.log1p(energy).reshape(x.shape[0], -1))


def _wave(make: Any, outputs: int = 0, **more: Any) -> Network:
    return Network("wave", SHAPE, make, outputs, **more)


WAVES = {
    "Conv1d net": _wave(lambda: nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(104, 3))),
    "Conv1d net, BatchNorm": _wave(lambda: pooled(block(3, 8, 7, 2), block(8, 16, 5, 2), nn.Dropout(0.2), width=16)),
    "Conv1d net, several labels at once": _wave(
        lambda: pooled(block(3, 8, 7, 2), block(8, 16, 5, 2), width=16), several=True),
    "FCN": _wave(lambda: pooled(block(3, 16, 7), block(16, 16, 5), block(16, 16, 3), width=16)),
    "TCN": _wave(lambda: LastStep(Causal(3, 8, 1), Causal(8, 8, 2), Causal(8, 8, 4), width=8)),
    "TCN, weight norm, end cut off": _wave(lambda: LastStep(Chomped(3, 8, 1), Chomped(8, 8, 2), width=8)),
    "WDCNN": Network("wave", (1, 256), lambda: nn.Sequential(  # Zhang et al. 2017
        block(1, 16, 64, 16, padding=24), nn.MaxPool1d(2), block(16, 32, 3), nn.MaxPool1d(2), block(32, 32, 3),
        nn.MaxPool1d(2), nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 3))),
    "ResNet, 1-D": _wave(lambda: pooled(resnet_block(3, 8), resnet_block(8, 8), width=8)),
    "InceptionTime": _wave(lambda: pooled(
        Residual(nn.Sequential(Inception(3, 4), Inception(16, 4)), nn.Conv1d(3, 16, 1)), width=16)),
    "squeeze and excitation, 1-D": _wave(lambda: pooled(block(3, 8, 7), Excite(8), block(8, 8, 3), Excite(8), width=8)),
    "depthwise separable, 1-D": _wave(lambda: pooled(separable(3, 8, 2), separable(8, 16, 2), width=16)),
    "GroupNorm and SiLU, 1-D": _wave(lambda: pooled(
        nn.Conv1d(3, 8, 5), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv1d(8, 8, 5), nn.InstanceNorm1d(8, affine=True),
        nn.SiLU(), width=8)),
    "U-Net, 1-D": _wave(UNet, -1),
    "convolutional autoencoder, 1-D": _wave(lambda: nn.Sequential(
        nn.Conv1d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv1d(8, 4, 5, 2, 2), nn.ReLU(),
        nn.ConvTranspose1d(4, 8, 5, 2, 2, output_padding=1), nn.ReLU(),
        nn.ConvTranspose1d(8, 3, 5, 2, 2, output_padding=1)), -1),
    "autoencoder, upsampled, 1-D": _wave(lambda: nn.Sequential(
        nn.Conv1d(3, 8, 4, 4), nn.ELU(), nn.Upsample(scale_factor=4), nn.Conv1d(8, 3, 5, padding=2)), -1),
    "CNN and LSTM": _wave(Recurrent),
    "PatchTST-like": _wave(Patches),
    "spectrum in the graph": _wave(Spectrum),
}  # fmt: skip
