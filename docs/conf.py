"""How Sphinx makes the site of the documentation: ``make docs``."""

from __future__ import annotations

import inspect

import scballast
from scballast.commands.help_page import described_keys
from scballast.config.simulation import SimulationConfig
from scballast.methods.method import ESTIMANDS
from scballast.methods.registry import METHODS

project = "scballast"
author = "the scballast developers"
copyright = author
release = version = scballast.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["images"]
# A name in a docstring that leads nowhere is an error; types of other packages have no pages here.
nitpicky = True
suppress_warnings = ["config.cache"]

html_theme = "sphinx_book_theme"
html_title = f"scballast {release}"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the sidebar has the search
}
highlight_language = "text"  # of blocks without a language: commands
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3

# Notebooks are run anew at every build, and their figures stand in the pages, not in the files.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
# Widgets would load scripts from another host.
nb_ipywidgets_js: dict[str, object] = {}

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _methods(estimand: str) -> str:
    rows = []
    for method in METHODS.values():
        if method.estimand == estimand:
            reads = "models" if method.roles else "cells"
            always = "yes" if method.of_every_model else ""
            source = "control: never the answer" if method.control else "; ".join(method.references)
            rows.append((f"`{method.name}`", method.label, reads, always, source))
    return _table(("method", "what it is", "reads", "always", "source"), rows)


def _keys() -> str:
    rows = [(f"`{key}`", f"`{default}`", meaning) for key, default, meaning in described_keys()]
    return _table(("key", "default", "meaning"), rows)


myst_substitutions = {
    **{f"{estimand}_methods": _methods(estimand) for estimand in ESTIMANDS},
    "keys": _keys(),
    "simulation": inspect.getdoc(SimulationConfig),
}
