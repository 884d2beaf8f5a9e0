# SPDX-License-Identifier: Apache-2.0
"""Make the files of this folder: networks of Keras 3, exported by its own `export`, which is tf2onnx.

Beside each file an .npz: inputs `x`, outputs `y`, and of the loss sum(w * y) the values and the gradients of all
trainable variables, each as one vector. Needs `pip install keras tensorflow-cpu tf2onnx`, in an environment of its own:

    KERAS_BACKEND=tensorflow python make.py
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
Layers: Any = keras.layers


def attention() -> Any:
    """A block of a Transformer."""
    x = keras.Input((12, 4))
    y = Layers.Dense(8)(x)
    y = Layers.LayerNormalization()(y + Layers.MultiHeadAttention(2, 4)(y, y))
    return keras.Model(x, Layers.Dense(3)(Layers.GlobalAveragePooling1D()(y)))


def inverted() -> Any:
    """A depthwise block with a shortcut, on pictures."""
    x = keras.Input((12, 12, 3))
    y = Layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(x)
    z = Layers.ReLU(6.0)(Layers.BatchNormalization()(Layers.DepthwiseConv2D(3, padding="same")(y)))
    return keras.Model(x, Layers.Dense(3)(Layers.GlobalAveragePooling2D()(Layers.Add()([y, Layers.Conv2D(6, 1)(z)]))))


NETWORKS: dict[str, Any] = {
    "mlp": lambda: keras.Sequential(
        [keras.Input((12,)), Layers.Dense(8, "relu"), Layers.BatchNormalization(), Layers.Dropout(0.2),
         Layers.Dense(3, "softmax")]),
    "sigmoid": lambda: keras.Sequential([keras.Input((12,)), Layers.Dense(8, "tanh"), Layers.Dense(1, "sigmoid")]),
    "autoencoder": lambda: keras.Sequential([keras.Input((12,)), Layers.Dense(4, "elu"), Layers.Dense(12)]),
    "conv1d": lambda: keras.Sequential(
        [keras.Input((16, 3)), Layers.Conv1D(6, 3, activation="relu"), Layers.MaxPooling1D(2), Layers.Flatten(),
         Layers.Dense(3, "softmax")]),
    "conv1d_norm": lambda: keras.Sequential(
        [keras.Input((16, 3)), Layers.Conv1D(6, 5, padding="same"), Layers.BatchNormalization(), Layers.ReLU(),
         Layers.SeparableConv1D(6, 3, dilation_rate=2), Layers.GlobalAveragePooling1D(), Layers.Dense(3)]),
    "lstm": lambda: keras.Sequential([keras.Input((12, 4)), Layers.LSTM(6), Layers.Dense(3, "softmax")]),
    "gru": lambda: keras.Sequential([keras.Input((12, 4)), Layers.GRU(6), Layers.Dense(3)]),
    "gru_unrolled": lambda: keras.Sequential(
        [keras.Input((5, 4)), Layers.GRU(4, unroll=True), Layers.Dense(3)]),
    "bilstm": lambda: keras.Sequential([keras.Input((12, 4)), Layers.Bidirectional(Layers.LSTM(4)), Layers.Dense(3)]),
    "lstm_autoencoder": lambda: keras.Sequential(
        [keras.Input((12, 4)), Layers.LSTM(5), Layers.RepeatVector(12), Layers.LSTM(5, return_sequences=True),
         Layers.TimeDistributed(Layers.Dense(4))]),
    "attention": attention,
    "conv2d": lambda: keras.Sequential(
        [keras.Input((12, 12, 1)), Layers.Conv2D(4, 3, activation="relu"), Layers.MaxPooling2D(), Layers.Flatten(),
         Layers.Dense(3, "softmax")]),
    "inverted": inverted,
}  # fmt: skip


def write(name: str) -> None:
    """Train a network a little, export it, and write what it gives."""
    keras.utils.set_random_seed(0)
    rng, net = np.random.default_rng(0), NETWORKS[name]()
    x = rng.normal(size=(6, *net.input_shape[1:])).astype(np.float32)
    y = net(x).numpy()
    net.compile(keras.optimizers.SGD(0.05), "mse")
    net.fit(x, rng.normal(size=y.shape).astype(np.float32), epochs=2, batch_size=3, verbose=0)
    w = rng.normal(size=y.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        out = net(x, training=False)
        loss = tf.reduce_sum(w * out)
    grads = tape.gradient(loss, [v.value for v in net.trainable_variables])
    values = [v.numpy() for v in net.trainable_variables]
    np.savez_compressed(
        HERE / f"{name}.npz", x=x, y=out.numpy(), w=w,
        values=np.concatenate([v.ravel() for v in values]), grads=np.concatenate([g.numpy().ravel() for g in grads]),
    )  # fmt: skip
    net.export(str(HERE / f"{name}.onnx"), format="onnx", verbose=False)


def main(names: list[str]) -> None:
    """Write these networks, or all, which are of one version of the tools."""
    if not names:
        made = {tool: version(tool) for tool in ("keras", "tensorflow-cpu", "tf2onnx")}
        (HERE / "versions.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    for each in names or NETWORKS:
        write(each)


if __name__ == "__main__":
    main(sys.argv[1:])
