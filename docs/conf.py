"""Sphinx settings. The source is the whole repository, so that links between pages mean the same as on a code host.

Pages are those of docs/, the conclusions in analysis/ and the results in benchmarks/; `make docs` builds them.
"""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

project = "scaling"
author = "the authors of scaling"
version = release = version_of("patch-scaling")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_line",
    "docstrings",
    "navigation",
]

root_doc = "docs/index"
include_patterns = ["docs/**", "analysis/**", "benchmarks/**", "*.md"]
exclude_patterns = [".*", "build", "demo", "runs", "scaling", "tests", "benchmarks/data", "**/__pycache__"]

highlight_language = "none"
smartquotes = False  # they would make one dash of the two before an option
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "imported-members": True, "exclude-members": "model_config"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_show_copyright = False
html_title = f"scaling {version}"
html_additional_pages = {"index": "to-index.html"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
copybutton_prompt_text = "$ "
