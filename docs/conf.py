"""Build the book: `pip install '.[docs]' && sphinx-build -W docs docs/_build`."""

project = "wn"
author = "The wn developers"
extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb"}
myst_enable_extensions = ["dollarmath", "amsmath"]
nb_execution_mode = "off"
exclude_patterns = ["_build"]
html_theme = "alabaster"
