"""Where a source lies: a local path or an fsspec URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote

from gigaqc.errors import ImageTypeError, MissingDependencyError, ReadError, SourceNotFoundError

_LOCAL = ("file", "local")
# What opens a URL and does not say which file it is: it is neither shown nor kept.
_PASSWORD = re.compile(r"(?<=://)([^/?#@\s]*):[^/?#@\s]*(?=@)")
_SIGNATURE = re.compile(
    r"(?i)(?<=[?&])((?:x-(?:amz|goog)-[^=&#]*|awsaccesskeyid|googleaccessid|key-pair-id|policy|"
    r"signature|sig|se|st|ske|skt|expires|(?:access_|id_)?token|api_?key|auth|password)=)[^&#\s'\"]*"
)


@dataclass(frozen=True)
class Location:
    """A source as it is shown, and as it is opened: a local path or a URL."""

    given: str
    path: str
    local: bool
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def stem(self) -> str:
        """Name without folder and without suffixes, to name a single image after."""
        return stem(without_query(self.path))

    def open(self) -> IO[bytes]:
        """Open for reading bytes, with errors that name the source."""
        with self._named_in_errors():
            if self.local:
                return open(self.path, "rb")
            fs, path = self.filesystem()
            return cast(IO[bytes], fs.open(path, "rb"))

    def head(self, count: int) -> bytes:
        """Return the first bytes, from which the format is told."""
        with self.open() as file, self._named_in_errors():
            return file.read(count)

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise no_permission(self) from error
        except FileNotFoundError as error:
            if not self.local and isinstance(error.__cause__, OSError):  # a web server that is away
                raise unreachable(self, error.__cause__) from error
            raise missing(self) from error
        except (ReadError, MissingDependencyError):
            raise
        except Exception as error:
            raise unreachable(self, error) from error

    def size(self) -> int:
        """Size of the file in bytes."""
        if self.local:
            return os.path.getsize(self.path)
        fs, path = self.filesystem()
        return int(fs.size(path))

    def stamp(self) -> tuple[Any, ...]:
        """What changes when the file does, so that nothing cached outlives it."""
        if not self.local:
            return (self.size(),)
        state = os.stat(self.path)
        return (state.st_mtime_ns, state.st_size, state.st_ino)

    def filesystem(self) -> tuple[Any, str]:
        """Of a URL: the filesystem of fsspec that holds it, and its path there."""
        from fsspec.core import url_to_fs

        protocol = self.path.partition("://")[0]
        try:
            fs, path = url_to_fs(self.path, **self.options)
        except ImportError as error:
            raise MissingDependencyError(
                f"source: reading {protocol}:// URLs needs another package ({error}); install "
                f"{'gigaqc[s3]' if protocol == 's3' else 'it'}, or copy the image to this machine."
            ) from error
        except ValueError as error:
            raise ReadError(
                f"source: the protocol of {self.given!r} is not known to fsspec ({error}); use a "
                "local path, or a URL such as s3://, gs:// or https://."
            ) from error
        return fs, path


def locate(source: object, options: Mapping[str, Any] | None = None) -> Location:
    """Resolve a path or URL; nothing is opened. `options` go to the filesystem of a URL."""
    if not isinstance(source, (str, os.PathLike)):
        raise ImageTypeError(
            f"source: got {type(source).__name__}; pass a path, an fsspec URL, or a zarr store, "
            "group or array (arrays in memory need no opening)."
        )
    given = os.fspath(source)
    if isinstance(given, bytes):
        given = os.fsdecode(given)
    if not given:
        raise SourceNotFoundError("source: got an empty path; pass the path of an image.")
    protocol, mark, rest = given.partition("://")
    # Absolute, because workers may have another working directory.
    if not mark:
        return Location(given, os.path.abspath(os.path.expanduser(given)), True)
    if protocol.lower() in _LOCAL:
        return Location(given, os.path.abspath(unquote(rest)), True)
    return Location(without_secrets(given), given, False, dict(options or {}))


def without_secrets(address: str) -> str:
    """URLs without their passwords and signatures, which change and are nobody's business."""
    if "://" not in address:
        return address
    return _SIGNATURE.sub(r"\1...", _PASSWORD.sub(r"\1:...", address))


def in_one_line(error: BaseException) -> str:
    """What an error says, in one line and without secrets."""
    lines = without_secrets(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def without_query(address: str) -> str:
    """A path as it is, a URL without what comes after the path of the file."""
    return address.partition("?")[0] if "://" in address else address


def stem(path: str) -> str:
    """File name without the suffixes of image formats: ``a/b.ome.tiff`` gives ``b``."""
    name = Path(path.rstrip("/")).name
    for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr", ".nii.gz"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem or name


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key that puts ``z2`` before ``z10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p.lower()) for p in parts)


def no_permission(location: Location) -> ReadError:
    """Return the error for a source that may not be read."""
    cure = "ask its owner, or change its mode"
    if not location.local:
        cure = "check the credentials in your environment, or pass them as storage_options="
    return ReadError(f"source: no permission to read {location.given!r}; {cure}.")


def unreachable(location: Location, error: Exception) -> ReadError:
    """Return the error for a source that does not answer."""
    return ReadError(
        f"source: {location.given!r} cannot be reached ({type(error).__name__}: "
        f"{without_secrets(str(error))}); check the address, the connection and your credentials."
    )


def missing(location: Location) -> SourceNotFoundError:
    """Return the error for a source that is not there."""
    cure = "check the spelling"
    if location.local and not os.path.isabs(location.given):
        cure += f" (relative paths start at {os.getcwd()})"
    return SourceNotFoundError(f"source: {location.given!r} does not exist; {cure}.")
