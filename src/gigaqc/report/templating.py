"""Templates and files of a page, and its place in a notebook."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from gigaqc.errors import WriteError
from gigaqc.formulas.record import Status
from gigaqc.report import view
from gigaqc.report.words import count_of, name_of
from gigaqc.stores.staging import local_path

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


_CURES = {
    errno.ENOSPC: "the disk is full: free some space or write to another folder",
    errno.EDQUOT: "your quota is used up: free some space or write to another folder",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "not permitted: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOENT: "the folder does not exist: create it first",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EISDIR: "it is a folder: name a file in it",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8; `path` is complete or as it was before.

    The text goes to a sibling file first, which then takes the place of `path` in one step.

    Parameters
    ----------
    path
        The file; one that exists is replaced.
    text
        What it shall hold.

    Raises
    ------
    WriteError
        When it cannot be written; the message names the path and the cure, and nothing is left.
    """
    write_bytes(path, text.encode("utf-8", "replace"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """The same for bytes."""
    target = local_path(path)
    sibling = target.parent / f".gigaqc-{uuid.uuid4().hex}.tmp"
    try:
        with open(sibling, "xb") as stream:
            _write(stream, content)
        os.replace(sibling, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            sibling.unlink()
        if isinstance(error, OSError):
            cure = _CURES.get(error.errno or 0, f"{error.strerror or error}: try another folder")
            raise WriteError(f"path: cannot write {str(target)!r}; {cure}.") from error
        raise


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())


_ROWS = 100


def notebook_html(assessment: Any) -> str:
    """HTML for a notebook's cell: verdict, flags and the main columns of the channel table.

    It has no script and its styles reach nothing else; colours follow the notebook's theme.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.

    Returns
    -------
    str
        An HTML fragment.
    """
    shown = [m for m in view.columns(assessment) if m.primary]
    rows = view.rows(assessment, shown)
    return template("notebook.html.j2").render(
        title=name_of(assessment.name),
        verdict=view.verdict(assessment),
        facts=view.facts(assessment),
        columns=shown,
        rows=rows[:_ROWS],
        rows_left=max(0, len(rows) - _ROWS),
    )
