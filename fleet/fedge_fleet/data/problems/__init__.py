"""Data sets as federations, one file a family; `registry.py` lists them."""
