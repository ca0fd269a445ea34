"""`Statistics`: what one scan leaves of an image. It adds, saves, loads, and answers metrics."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from gigaqc.base.formatting import names, readable_bytes, table_html
from gigaqc.errors import ReadError, SourceNotFoundError, StatisticsError, WriteError
from gigaqc.statistics.distribution import Distribution
from gigaqc.statistics.kinds import OUTSIDE
from gigaqc.statistics.object_sums import ObjectSums
from gigaqc.statistics.state import Part, State, StateKind, all_kinds, names_of, without
from gigaqc.statistics.unreadable import Unreadable
from gigaqc.stores.staging import local_path, staged

__all__ = ["FORMAT", "Meta", "Part", "State", "Statistics", "state_files", "write_files"]

FORMAT = "gigaqc-statistics-3"
_ROOT, _CONTENT = "zarr.json", "arrays"
_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class Meta:
    """What was scanned: enough to name results without the image."""

    channels: tuple[str, ...]
    dims: tuple[str, ...]
    sizes: dict[str, int]
    dtype: str
    parts: int
    tile: int
    masked: bool = False
    reads: int = 1
    pooled: int = 1
    pixel_size: dict[str, float] = field(default_factory=dict)
    unit: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        sizes = " × ".join(f"{d} {n:,}" for d, n in self.sizes.items())
        what = sizes or f"{self.pooled} images"
        return f"{what}, {self.dtype}, channels {names(self.channels)}"

    def require(self, parts: Part, metric: str) -> None:
        """Raise where a scan left out what a metric needs."""
        if self.parts & parts != parts:
            missing = names_of(parts & ~self.parts)
            raise StatisticsError(
                f"image: the Statistics lack {missing}, which {metric} needs; scan the image "
                "again, or pass the image itself."
            )


@dataclass(frozen=True)
class Statistics:
    """What a scan observed of an image: every metric is a function of it and reads no pixel.

    Made by `gigaqc.scan(image).compute()`. Two add (``a + b``) when their channels and dtype agree;
    what has no meaning for a pool of images (tiles, profiles, thumbnails, objects) is dropped
    then. `save` keeps it as a zarr group, `Statistics.load` brings it back.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> s = gq.scan(np.arange(12, dtype="u2").reshape(3, 4)).compute()
    >>> gq.quantile(s, 0.5).values.tolist()
    [5.5]
    """

    meta: Meta
    state: State
    objects: ObjectSums | None = None
    unreadable: Unreadable | None = None
    """Chunks that were left out (``on_error="mask"``); None where an error would have been one."""

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return list(self.meta.channels)

    @property
    def nbytes(self) -> int:
        """Bytes that the statistics take in memory."""
        return self.state.nbytes + (0 if self.objects is None else self.objects.rows.nbytes)

    def distribution(self, channel: int) -> Distribution:
        """Values of a channel in ascending bins."""
        return self.state.histogram.channel(channel)

    def require(self, part: Part, metric: str) -> None:
        """Raise where a scan left out what a metric needs."""
        self.meta.require(part, metric)

    def __repr__(self) -> str:
        return f"Statistics of {self.meta}; {readable_bytes(self.nbytes)}"

    def _repr_html_(self) -> str:
        rows = []
        for c, name in enumerate(self.meta.channels):
            values = self.distribution(c)
            numbers = (values.minimum, values.mean, values.std, values.maximum)
            rows.append([name, f"{values.n:,}", *(f"{v:.4g}" for v in numbers)])
        columns = ("Channel", "Valid pixels", "Minimum", "Mean", "Standard deviation", "Maximum")
        facts = f"of {self.meta}; {readable_bytes(self.nbytes)}"
        return table_html("Statistics", facts, columns, rows)

    def compute(self, **_: Any) -> Statistics:
        """Itself: it is computed already, so that code for lazy statistics works on it."""
        return self

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        mine, theirs = self.meta, other.meta
        for name in ("channels", "dtype"):
            if getattr(mine, name) != getattr(theirs, name):
                raise StatisticsError(
                    f"statistics: {name} differ, {getattr(mine, name)} and "
                    f"{getattr(theirs, name)}; only images of the same {name} can be pooled."
                )
        meta = replace(
            mine,
            parts=without(mine.parts & theirs.parts, [k for k in all_kinds() if k.pooled is None]),
            pooled=mine.pooled + theirs.pooled,
            reads=max(mine.reads, theirs.reads),
            masked=mine.masked or theirs.masked,
            sizes={},
            source=None,
        )
        state = _pooled(self.state.pooled(), other.state.pooled())
        known = [s.unreadable for s in (self, other) if s.unreadable is not None]
        unreadable = known[0].merge(known[1]) if len(known) == 2 else next(iter(known), None)
        return Statistics(meta, state, unreadable=unreadable)

    def __radd__(self, other: object) -> Statistics:
        return self if other == 0 else NotImplemented  # so that sum([...]) works

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
    ) -> None:
        """Keep as a zarr group, complete or absent.

        Parameters
        ----------
        path
            Where; `load` takes the same.
        overwrite
            Replace what is there.

        Raises
        ------
        WriteError
            When something is at `path` (pass ``overwrite=True``) or it cannot be written.
        """
        write_files(path, state_files(self, {}), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Read what `save` kept; the same numbers to the bit.

        Raises
        ------
        SourceNotFoundError, ReadError
            When `path` does not exist or holds no statistics.
        """
        import zarr

        source = Path(path)
        if not source.exists():
            raise SourceNotFoundError(f"path: {str(source)!r} does not exist.")
        try:
            group = zarr.open_group(str(source), mode="r")
            if group.attrs.get("format") != FORMAT:
                raise ReadError(
                    f"path: {str(source)!r} holds no statistics that this version of gigaqc reads; "
                    "scan the image again."
                )
            content = group[_CONTENT][...].tobytes()  # type: ignore[index, union-attr]
            if zlib.crc32(content) != group.attrs["crc32"]:
                raise ValueError("not the bytes that were written")
            tree = json.loads(str(group.attrs["tree"]))
            return _unpack(tree, content, _classes(all_kinds()))
        except (KeyError, ValueError, OSError, RuntimeError) as error:  # the last: codecs
            if isinstance(error, ReadError):
                raise
            raise ReadError(
                f"path: {str(source)!r} holds no readable statistics ({error}); scan again."
            ) from error


def _pooled(mine: State, theirs: State) -> State:
    """Of two images; a state that one of them was scanned without is of neither."""
    merged = mine.merge(theirs)
    if np.isnan(mine.shift).all() or np.isnan(theirs.shift).all():  # of no pixels
        return merged
    alone = set(mine.held()) ^ set(theirs.held())
    return merged.holding(dict.fromkeys(alone - {OUTSIDE.key}))


@lru_cache
def _classes(kinds: tuple[StateKind, ...]) -> Mapping[str, type]:
    """What a store may hold, by name: what `Statistics` are made of, and registered states."""
    known: dict[str, type] = {}
    waiting: list[Any] = [Statistics, *(kind.state for kind in kinds)]
    while waiting:
        found = waiting.pop()
        waiting.extend(get_args(found))
        if not isinstance(found, type) or not is_dataclass(found):
            continue
        other = known.get(found.__name__)
        if other is None:
            known[found.__name__] = found
            waiting.extend(get_type_hints(found).values())
        elif other is not found:
            raise StatisticsError(
                f"statistics: a store finds classes by their names, and {found} is called like "
                f"{other}; rename one."
            )
    return known


def state_files(statistics: Statistics, attributes: Mapping[str, str]) -> dict[str, bytes]:
    """The zarr group that keeps statistics: its files, by their paths in it."""
    import zarr

    _classes(all_kinds())  # refuses classes that `load` could not tell apart
    arrays = _Content()
    tree = _pack(_kept(statistics), arrays)
    content = b"".join(arrays.parts)
    held: dict[str, Any] = {}
    group = zarr.open_group(zarr.storage.MemoryStore(held), mode="w")
    flat = np.frombuffer(content, "u1")
    group.create_array(_CONTENT, data=flat, chunks=(min(flat.size, _CHUNK),))
    group.attrs.update(attributes)
    group.attrs.update({"format": FORMAT, "tree": json.dumps(tree), "crc32": zlib.crc32(content)})
    return {path: file.to_bytes() for path, file in held.items()}


def write_files(
    path: str | os.PathLike[str], files: Mapping[str, bytes], *, overwrite: bool = False
) -> None:
    """Write what `state_files` gave, complete or absent; errors as of `Statistics.save`."""
    target = local_path(path, what="store")
    if target.exists() and not overwrite:
        raise WriteError(f"path: {str(target)!r} exists; pass overwrite=True to replace it.")
    try:
        with staged([target]) as (partial,):
            for name in sorted(files, key=_ROOT.__eq__):  # last what makes it a store
                file = partial / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(files[name])
    except OSError as error:
        raise WriteError(
            f"path: cannot write statistics to {str(target)!r} ({error}); choose a folder "
            "that you may write to and that has space."
        ) from error


def _kept(statistics: Statistics) -> Statistics:
    """What a store keeps of them."""
    gone = [kind for kind in all_kinds() if not kind.saved]
    meta = replace(statistics.meta, parts=without(statistics.meta.parts, gone))
    return replace(statistics, meta=meta, state=statistics.state.kept())


class _Content:
    """Arrays one after another as bytes; one zarr array of them all takes a tenth of the files."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Put an array aside; gives where it is and what it is."""
        at = self.size
        self.parts.append(array.tobytes())
        self.size += array.nbytes
        return {"at": at, "shape": array.shape, "dtype": array.dtype.str}


def _pack(value: Any, arrays: _Content) -> Any:
    """A tree of plain values; arrays are put aside and named by position."""
    if is_dataclass(value):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        if isinstance(value, State):  # a store does not tell who registered a state
            held |= held.pop("more")
        tree = {name: _pack(v, arrays) for name, v in held.items()}
        return {"class": type(value).__name__, "fields": tree}
    if isinstance(value, np.ndarray):
        return {"array": arrays.add(value)}
    if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
        return {"ragged": arrays.add(np.concatenate(value)), "sizes": [v.size for v in value]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, arrays) for v in value]}
    if isinstance(value, Mapping):
        return {"mapping": dict(value)}
    return value.item() if isinstance(value, np.generic) else value


def _unpack(tree: Any, content: bytes, known: Mapping[str, type]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "class" in tree:
        if tree["class"] not in known:
            raise ValueError(f"{tree['class']} is unknown: import the package that registers it")
        held = {k: _unpack(v, content, known) for k, v in tree["fields"].items()}
        if known[tree["class"]] is State:
            core = State(*(held.pop(name) for name in ("shift", "histogram", "tally")))
            return core.holding(held)
        return known[tree["class"]](**held)
    if "tuple" in tree:
        return tuple(_unpack(v, content, known) for v in tree["tuple"])
    if "mapping" in tree:
        return tree["mapping"]
    if "array" in tree:
        return _array(tree["array"], content)
    return tuple(np.split(_array(tree["ragged"], content), np.cumsum(tree["sizes"])[:-1]))


def _array(about: Mapping[str, Any], content: bytes) -> np.ndarray:
    shape = about["shape"]
    flat = np.frombuffer(content, about["dtype"], math.prod(shape), about["at"])
    return flat.reshape(shape).copy()
