"""Gradient operators for ONNX nodes, one file per operator family; `registry.py` maps op_type to operator."""
