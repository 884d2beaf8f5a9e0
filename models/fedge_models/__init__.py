"""What both ends of the federation must agree on: the model, its training, and the signed messages."""
