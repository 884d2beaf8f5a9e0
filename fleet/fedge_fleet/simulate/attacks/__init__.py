"""What hostile sites do, one file an attack; `registry.py` lists them."""
