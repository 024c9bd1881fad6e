"""Sphinx: make docs. The pages are the Markdown files of docs, with the README and RESULTS."""

project = "jaxseg"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "docs/*.md", "benchmarks/RESULTS.md"]
exclude_patterns = [".*", "build", "runs"]  # not searched for pages
html_theme = "furo"
html_title = "jaxseg"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
