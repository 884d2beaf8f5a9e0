"""A whole fleet on one machine: the demo with real processes, replay servers, recordings."""
