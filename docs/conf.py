"""Configuration of the documentation site; `make docs` builds it.

Nothing here needs a network. Two environment variables add to the build:

GIGAQC_DATA
    The folder of real images: the notebooks are executed too (else shown without results).
GIGAQC_DOCS_LINKS
    Any value: names of numpy, dask, xarray ... link to their own pages (intersphinx, fetched).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

import gigaqc  # noqa: E402
import gigaqc.plot  # noqa: E402

# autodoc imports `gigaqc.pl.map` by its public name, which is that of an attribute.
sys.modules["gigaqc.pl"] = gigaqc.plot
# What the pages draw with, for the kernels that execute them.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE / "_ext"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

project = "gigaqc"
author = "The gigaqc developers"
project_copyright = "the gigaqc developers"
version = release = gigaqc.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "generated",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build", "_ext", "_templates", "metrics/tables", "scverse", "**.ipynb_checkpoints",
]  # fmt: skip
suppress_warnings = ["config.cache"]  # functions in numpydoc's settings are not pickled

# Pages: MyST markdown, executed where a page says so.
# The first suffix is that of the pages that autosummary writes.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 3


def _digest() -> str:
    """Names the state of the code that pages show results of."""
    found = hashlib.sha256()
    for path in sorted([*ROOT.glob("src/**/*.py"), *HERE.glob("_ext/*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / ".jupyter_cache" / _digest())
nb_execution_excludepatterns = [] if os.environ.get("GIGAQC_DATA") else ["notebooks/*"]
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove-warn"
nb_merge_streams = True

# The reference: numpydoc's docstrings, a page a name.
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the text says what may be passed; signatures stay readable
default_role = "py:obj"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_checks = {
    "all",
    "EX01",  # an example where one can be checked in the head; a picture has none
    "SA01",  # the text links to what belongs together
    "ES01",  # one line is enough where one line says it
    "GL01",  # the summary begins in the line of the quotes, as ruff's D212 has it
    "GL02",  # and short ones end there
    "GL03",
    "GL08",  # ruff asks for docstrings, and knows what needs one
    "PR01",  # parameters that the summary explains are not repeated
    "PR02",  # `q, q_sum, q_post` and `**options` are documented together
    "PR03",  # and what belongs together stands together
    "PR04",  # types stand in the signature
    "PR06",
    "PR08",  # "names or positions": a description need not be a sentence ...
    "PR09",  # ... and may begin with code
    "RT01",  # a summary such as "Posterior of ..." says what is returned
    "RT03",
    "RT04",
    "RT05",
    "SS03",
    "SS05",  # "Counts of ..." is a noun
    "SS06",
    "YD01",  # a context manager's summary says what holds within it
}

html_theme = "pydata_sphinx_theme"
html_title = "gigaqc"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["gigaqc.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "gigaqc"},
    "show_toc_level": 2,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Pages without others below them need no column for these.
html_sidebars = {
    name: []
    for name in ("quickstart", "scaling", "performance", "segmentation", "design", "contributing")
} | {"changelog": [], "cli": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

if os.environ.get("GIGAQC_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
        "dask": ("https://docs.dask.org/en/stable", None),
        "skimage": ("https://scikit-image.org/docs/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }
