"""Templates, styles and scripts of the pages, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gigaqc.formulas.status import Status
from gigaqc.report.words import count_of

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Shell:
    """What stands around the contents of a page.

    Attributes
    ----------
    style, script
        Ours, to be written into the page as they are.
    policy
        The content security policy: pictures from data URIs, this script by its hash, no network.
    """

    style: Any
    script: Any
    policy: str


def template(name: str) -> Any:
    """A template of ours; everything it shows is escaped.

    Parameters
    ----------
    name
        Its file name.
    """
    return _environment().get_template(name)


@cache
def shell(styles: tuple[str, ...], scripts: tuple[str, ...]) -> Shell:
    """The styles and scripts of a page, each joined to one.

    Parameters
    ----------
    styles, scripts
        File names among the templates, in the order in which they count.
    """
    from markupsafe import Markup

    style, script = (Markup("\n".join(map(_text, names))) for names in (styles, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return Shell(style, script, policy)


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(Status=Status, count_of=count_of)
    environment.tests["mapping"] = lambda value: isinstance(value, Mapping)
    return environment
