"""Data sets as federations, one file for each family of sets; `registry.py` lists them."""
