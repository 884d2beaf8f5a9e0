"""An ONNX file read, checked, split into trunk and trainable tail, and run forwards and backwards in NumPy."""
