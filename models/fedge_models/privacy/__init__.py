"""Differential privacy of one update: clipping, exact discrete noise, and the accounting of what it costs."""
