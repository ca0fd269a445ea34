"""The exceptions. Each message names the argument, what was received, and the cure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable


class GigaqcError(Exception):
    """Anything that gigaqc raises on purpose derives from this class."""


class ImageError(GigaqcError, ValueError):
    """An argument is not an image that can be measured (dims, dtype, shape, size)."""


class ImageTypeError(GigaqcError, TypeError):
    """An argument is of a type that cannot be turned into an image."""


class ChannelError(GigaqcError, ValueError):
    """A channel is missing, named twice, or does not exist."""


class MaskError(GigaqcError, ValueError):
    """A mask does not fit the image."""


class ParameterError(GigaqcError, ValueError):
    """A parameter is outside the values it can take."""


class ReadError(GigaqcError, ValueError):
    """A source exists but cannot be read as an image; names the file, element or chunk."""


class SourceNotFoundError(GigaqcError, FileNotFoundError):
    """A path or URL does not exist."""


class ElementError(ReadError):
    """A source holds several images and none, or one that it lacks, was named."""


class MissingDependencyError(GigaqcError, ImportError):
    """An optional package is needed; the message says how to install it."""


class StatisticsError(GigaqcError, ValueError):
    """A `Statistics` lacks what a metric needs, or two cannot be added."""


class TooLargeError(GigaqcError, ValueError):
    """What a task must hold at once does not fit the memory of a process; says how to store it."""


class RulesError(GigaqcError, ValueError):
    """A rules file or a limit cannot be understood."""


class SegmentationError(GigaqcError, ValueError):
    """A model failed on a tile, or gave no labels; names the tile and its pixels."""


class WriteError(GigaqcError, OSError):
    """A result could not be written; nothing half-written was left behind."""


class ChannelWarning(UserWarning):
    """A channel gives no result; the message names it and says why."""


class SegmentationWarning(UserWarning):
    """Tiles without labels because a model failed on them; the message names them."""


def no_attribute(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """What a wrong name raises: it says which name may be meant."""
    import difflib

    near = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], n=1)
    message = f"{owner} has no attribute {name!r}"
    if near:
        message += f"; did you mean {near[0]!r}?"
    # A traceback of Python guesses too, but str() and notebooks do not: without obj it is silent.
    return AttributeError(message, name=name, obj=None)


def warn(message: str, category: type[Warning]) -> None:
    """Warn whoever asked for a result, also from a task on a worker of a cluster."""
    distributed = sys.modules.get("distributed")
    tell = warnings.warn if distributed is None else distributed.worker.warn
    tell(message, category, stacklevel=3)
