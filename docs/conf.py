"""The documentation as a site: `make docs`. What each name means: Sphinx and MyST-Parser."""

from __future__ import annotations

from importlib import metadata

project = "detector"
release = metadata.version("detector")
extensions = ["myst_parser"]
exclude_patterns = ["examples"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"detector {release}"
html_copy_source = False
html_show_copyright = False
