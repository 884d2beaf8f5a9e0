"""A model trained, judged, tuned and served on this gateway. No network."""
