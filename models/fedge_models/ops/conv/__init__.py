"""Convolutions, channels-last: the operator chooses the way that suits the node."""
