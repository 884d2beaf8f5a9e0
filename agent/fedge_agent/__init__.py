"""The gateway: reads machines, decides with an ONNX model, learns locally, sends signed updates."""
