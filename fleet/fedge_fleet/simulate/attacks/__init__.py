"""What hostile sites do, one file for each attack; `registry.py` lists them."""
