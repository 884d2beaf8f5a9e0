# SPDX-License-Identifier: Apache-2.0
"""Know a file that is not ONNX by its first bytes, and say how an ONNX file is made of it."""

from __future__ import annotations

from ..refusals import refuse

TORCH = "Export the network with torch.onnx.export"
KERAS = 'Export the network with model.export(…, format="onnx") or tf2onnx'
MAGIC = (  # (where, first bytes, what it is, what to do)
    (4, b"ORTM", "a file in the own format of ONNX Runtime (.ort)", "Take the .onnx file that it was made from"),
    (4, b"TFL3", "a file of TensorFlow Lite", "Convert it with tf2onnx --tflite"),
    (0, b"\x89HDF", "an HDF5 file, as of Keras", KERAS),
    (0, b"version https://git-lfs", "a pointer of Git LFS to a file", "Fetch the file: git lfs pull"),
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it"),
    (0, b"ftrt", "an engine of TensorRT", "Take the .onnx file that it was built from"),
    (0, b"ptrt", "an engine of TensorRT", "Take the .onnx file that it was built from"),
    (0, b"<?xml", "XML, as of OpenVINO", "Take the .onnx file that it was converted from"),
    (0, b"<!DOCTYPE", "a web page", "Download the file itself"),
    (0, b"<html", "a web page", "Download the file itself"),
    (8, b'{"', "a file of safetensors, which holds weights and no graph", TORCH),
)
ZIP, PICKLE = b"PK\x03\x04", tuple(b"\x80" + bytes([n]) for n in range(2, 6))


def check_format(data: bytes, where: str) -> None:
    """Raise ModelError when the bytes are of another kind of file."""
    for start, first, what, do in MAGIC:
        if data[start : start + len(first)] == first:
            refuse("format", where, what=what, do=do)
    if data.startswith(ZIP) and b"model.weights.h5" in data:
        refuse("format", where, what="a file of Keras", do=KERAS)
    if data.startswith(ZIP):
        torch = b"data.pkl" in data
        refuse(
            "format", where, what="a checkpoint of PyTorch" if torch else "a zip archive",
            do=TORCH if torch else "Unpack it",
        )  # fmt: skip
    if data.startswith(PICKLE):
        do = "Export the network with skl2onnx.to_onnx or torch.onnx.export"
        refuse("format", where, what="a pickle of Python, which is never opened here", do=do)
