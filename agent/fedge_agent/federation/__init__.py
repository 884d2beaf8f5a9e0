"""This gateway's part in a federation: its identity, its calls, one thread for each federation."""
