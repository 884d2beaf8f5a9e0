# SPDX-License-Identifier: Apache-2.0
"""Networks on pictures, and the small ones of torchvision."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from support.counterparts import counterpart

from .network import Network

torch = counterpart("torch")
nn = torch.nn
Module: Any = nn.Module
RGB = (3, 32, 32)


def models() -> Any:
    """The models of torchvision, also where it was built for another PyTorch: its own operators are not used here."""
    try:
        return counterpart("torchvision.models")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            OWN.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.models")


OWN = torch.library.Library("torchvision", "FRAGMENT")
MODELS = models()


def block(a: int, b: int, k: int = 3, stride: int = 1, groups: int = 1, act: Any = nn.ReLU) -> Any:
    """Convolution, BatchNorm, activation."""
    return nn.Sequential(nn.Conv2d(a, b, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(b), act())


def pooled(*parts: Any, width: int) -> Any:
    """The mean over the picture, and a layer."""
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


class Residual(Module):  # type: ignore[misc]
    """A block of a ResNet (He et al. 2016)."""

    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        self.inner = nn.Sequential(block(a, b, 3, stride), nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))
        self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)) if a != b else None

    def forward(self, x: Any) -> Any:
        return torch.relu(self.inner(x) + (x if self.short is None else self.short(x)))


class Excite(Module):  # type: ignore[misc]
    """Squeeze and excitation (Hu et al. 2018)."""

    def __init__(self, width: int, gate: Any = nn.Sigmoid) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, width, 1), gate()
        )

    def forward(self, x: Any) -> Any:
        return x * self.net(x)


class Inverted(Module):  # type: ignore[misc]
    """An inverted residual of MobileNetV2, or V3 and EfficientNet with another activation and excitation."""

    def __init__(self, width: int, act: Any = nn.ReLU6, excite: Any = None) -> None:
        super().__init__()
        wide, gate = 2 * width, [excite(2 * width)] if excite else []
        last = [nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.inner = nn.Sequential(block(width, wide, 1, act=act), block(wide, wide, 3, 1, wide, act=act), *gate, *last)

    def forward(self, x: Any) -> Any:
        return x + self.inner(x)


class Fire(Module):  # type: ignore[misc]
    """Of SqueezeNet (Iandola et al. 2016)."""

    def __init__(self, a: int, squeeze: int, b: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(a, squeeze, 1)
        self.one, self.three = nn.Conv2d(squeeze, b, 1), nn.Conv2d(squeeze, b, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], dim=1)


class Dense(Module):  # type: ignore[misc]
    """Of DenseNet (Huang et al. 2017)."""

    def __init__(self, a: int, grow: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(a), nn.Conv2d(a, grow, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], dim=1)


class Shuffled(Module):  # type: ignore[misc]
    """Grouped convolutions with channels shuffled (Zhang et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = block(width, width, 1, groups=2), block(width, width, 3, groups=width)

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        y = self.one(x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x + self.two(y)


class UNet(Module):  # type: ignore[misc]
    """A small U-Net that paints its input again; `bilinear`: upsampled, else by transposed convolution."""

    def __init__(self, bilinear: bool) -> None:
        super().__init__()
        self.down, self.middle = block(3, 8), block(8, 16)
        plain: Any = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up = nn.Sequential(plain, nn.Conv2d(16, 8, 1)) if bilinear else nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = nn.Sequential(block(16, 8), nn.Conv2d(8, 3, 1))

    def forward(self, x: Any) -> Any:
        a = self.down(x)
        b = self.up(self.middle(nn.functional.max_pool2d(a, 2)))
        return self.out(torch.cat([a, b], dim=1))


class Vision(Module):  # type: ignore[misc]
    """A small Vision Transformer (Dosovitskiy et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.zeros(1, 1, 16))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, 16))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True, activation="gelu"), 2,
            enable_nested_tensor=False,
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        p = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), p], dim=1) + self.positions
        return self.head(self.encoder(y)[:, 0])


class NextBlock(Module):  # type: ignore[misc]
    """Of ConvNeXt: depthwise, LayerNorm with channels last, a scale of each channel (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Any) -> Any:
        y = self.net(self.norm(self.conv(x).permute(0, 2, 3, 1))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class Trunk(Module):  # type: ignore[misc]
    """The first stages of a ResNet as PaDiM reads them, joined, with a head (Defard et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        net = MODELS.resnet18()
        self.trunk = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
        self.second, self.head = net.layer2, nn.Linear(192, 3)

    def forward(self, x: Any) -> Any:
        a = self.trunk(x)
        b = nn.functional.interpolate(self.second(a), size=a.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(torch.cat([a, b], dim=1).mean(dim=(2, 3)))


def _rgb(make: Callable[[], Any], outputs: int = 0, **more: Any) -> Network:
    return Network("picture", RGB, make, outputs, **more)


def _torchvision(name: str, head: str, shape: tuple[int, ...] = RGB, **more: Any) -> Network:
    return Network("picture", shape, lambda: getattr(MODELS, name)(num_classes=3, **more), rows=2, head=head)


PICTURES = {
    "LeNet": Network("picture", (1, 28, 28), lambda: nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 3))),
    "VGG-like": _rgb(lambda: nn.Sequential(
        block(3, 8), block(8, 8), nn.MaxPool2d(2), block(8, 16), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(1024, 3))),
    "ResNet, small": _rgb(lambda: pooled(block(3, 8), Residual(8, 8), Residual(8, 16, 2), width=16)),
    "MobileNetV2-like": _rgb(lambda: pooled(block(3, 8, 3, 2, act=nn.ReLU6), Inverted(8), Inverted(8), width=8)),
    "MobileNetV3-like": _rgb(lambda: pooled(
        block(3, 8, 3, 2, act=nn.Hardswish), Inverted(8, nn.Hardswish, lambda w: Excite(w, nn.Hardsigmoid)), width=8)),
    "EfficientNet-like": _rgb(lambda: pooled(
        block(3, 8, 3, 2, act=nn.SiLU), Inverted(8, nn.SiLU, Excite), Inverted(8, nn.SiLU, Excite), width=8)),
    "SqueezeNet-like": _rgb(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 8), nn.Dropout(0.5),
        nn.Conv2d(16, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "ShuffleNet-like": _rgb(lambda: pooled(block(3, 8, 3, 2), Shuffled(8), Shuffled(8), width=8)),
    "DenseNet-like": _rgb(lambda: pooled(block(3, 8, 3, 2), Dense(8, 4), Dense(12, 4), nn.AvgPool2d(2), width=16)),
    "ConvNeXt-like": _rgb(lambda: pooled(nn.Conv2d(3, 8, 4, 4), NextBlock(8), NextBlock(8), width=8)),
    "Vision Transformer, small": _rgb(Vision),
    "U-Net, transposed convolution": _rgb(lambda: UNet(False), -1),
    "U-Net, bilinear": _rgb(lambda: UNet(True), -1),
    "convolutional autoencoder": _rgb(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(4, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2), nn.Sigmoid()), -1),
    "autoencoder, pixel shuffle": _rgb(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.LeakyReLU(0.1), nn.Conv2d(8, 48, 1), nn.PixelShuffle(4)), -1),
    "PaDiM-like trunk and head": _rgb(Trunk, rows=2),
    "torchvision mobilenet_v2": _torchvision("mobilenet_v2", "classifier.*", width_mult=0.35),
    "torchvision mobilenet_v3_small": _torchvision("mobilenet_v3_small", "classifier.*"),
    "torchvision efficientnet_b0": _torchvision("efficientnet_b0", "classifier.*"),
    "torchvision squeezenet1_1": _torchvision("squeezenet1_1", "classifier.*"),
    "torchvision shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5", "fc.*"),
    "torchvision mnasnet0_5": _torchvision("mnasnet0_5", "classifier.*"),
}  # fmt: skip
