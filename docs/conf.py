"""Sphinx settings; nothing is fetched at build time or by a browser."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

from seqlab import __version__  # noqa: E402  # after the path of the extension

project = "seqlab"
author = "the seqlab developers"
copyright = "the seqlab developers, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "extension"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3  # links to a heading work as they do on GitHub

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "literal"  # docstrings quote the command line in single backticks
nitpicky = False
add_module_names = False
highlight_language = "text"

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"seqlab {version}"
html_static_path = ["_static"]
html_css_files = ["seqlab.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00598a", "color-brand-content": "#00598a"},
    "dark_css_variables": {"color-brand-primary": "#74c0ee", "color-brand-content": "#74c0ee"},
    "navigation_with_keys": True,
}
