"""Where readings come from; `registry.py` lists the types."""
