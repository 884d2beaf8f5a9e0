# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: `make docs` writes it to `build/docs/`, without a network; each warning is an error."""

from fedge_models import __version__

project = "fedge"
copyright = "the fedge authors; Apache-2.0"
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images"]
nitpicky = True

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = f"fedge {__version__}"
html_static_path = ["static"]
html_css_files = ["fedge.css"]
html_show_sphinx = False
