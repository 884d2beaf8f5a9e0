"""What the site keeps to learn from, and never sends: samples, labels, inspection results."""
