"""A whole fleet on one machine: recorded and simulated machines, stand-ins for a plant, simulations and the demo."""
