# SPDX-License-Identifier: Apache-2.0
"""The gateway: reads machines, decides with an ONNX model, learns locally, sends signed updates."""

import os

# Before NumPy is first imported: on small products a second BLAS thread costs a quarter to a third, and decisions wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
