"""What both ends of the federation must agree on: the model, its training, and the signed messages."""

__version__ = "0.1.0"
