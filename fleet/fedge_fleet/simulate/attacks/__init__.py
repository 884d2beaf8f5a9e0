# SPDX-License-Identifier: Apache-2.0
"""What hostile sites do, one file for each attack; `registry.py` lists them."""
