"""Build the book: `pip install '.[docs]' && sphinx-build -W docs docs/_build`."""

project = "wn"
author = "The wn developers"
project_copyright = author
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]  # formulas need no network
source_suffix = {".md": "myst-nb"}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3  # links such as backends.md#threads lead to headings down to ###
nb_execution_mode = "auto"  # pages with code cells: pictures are those of the code that the page shows
nb_execution_timeout = -1
nb_execution_raise_on_error = True
nb_render_markdown_format = "myst"  # tables, too
highlight_language = "none"  # blocks without a language are commands and formulas
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wn"
html_static_path = ["_static"]
html_css_files = ["book.css"]
# MathJax 3 is what the book brings with it; it is loaded once the page is there.
mathjax3_config = {"options": {"enableMenu": False}}
