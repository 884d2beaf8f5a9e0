"""Where decisions go; `registry.py` lists the types."""
