"""The aggregator: it admits nodes and updates, averages them robustly and signs releases."""
