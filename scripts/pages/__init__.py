# SPDX-License-Identifier: Apache-2.0
"""Parts of the documentation that are made from the code, one file a kind; `make_pages.py` puts them into the pages."""
