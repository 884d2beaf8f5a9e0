"""The aggregator: admits nodes and updates, averages robustly, signs releases."""
