# SPDX-License-Identifier: Apache-2.0
"""Train your own net on arrays and save it for a gateway.

python examples/train_your_own.py [FILE.onnx]
"""

import sys

import fedge_models as fm
import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(600, 2, 32)).astype(np.float32)  # windows: (n, channels, samples); yours come from a file
y = np.arange(600) % 2  # 0: ok, 1: worn
x[y == 1, 0] += 2 * np.sin(np.arange(32) * 0.8)  # a worn bearing hums

channels = (fm.Channel("vibration", "g"), fm.Channel("current", "A"))
card = fm.Card("classify", channels, fm.WindowSpec(rate_hz=100, length=32, hop=32), labels=("ok", "worn"))
model = fm.starter(card)  # or fm.load("exported_from_pytorch.onnx", card)
report = model.train(x[:500], y[:500], fm.TrainingConfig(epochs=10))
print(f"loss {report.losses[0]:.3f} -> {report.losses[-1]:.3f}, held back: {model.evaluate(x[500:], y[500:])}")
model.save(sys.argv[1] if len(sys.argv) > 1 else "worn.onnx")
