# SPDX-License-Identifier: Apache-2.0
"""Read and check an ONNX file, split it into trunk and trainable tail, and run it forwards and backwards in NumPy."""
