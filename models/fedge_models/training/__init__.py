"""Train a graph by gradients and evaluate it, on arrays in memory; where the data comes from is the caller's part."""
