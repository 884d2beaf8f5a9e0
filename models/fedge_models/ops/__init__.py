# SPDX-License-Identifier: Apache-2.0
"""Compute ONNX operators and their gradients in NumPy, one file per operator family; `registry.py` names them."""
