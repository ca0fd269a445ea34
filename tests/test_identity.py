"""No two results share a name: requests that differ in anything share only tasks that are the same.

Graphs are compared and not computed: a key that two of them hold must stand for the same task. So
whatever is computed together comes out as it does alone, which a few pairs show.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import partial
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import shapely
import xarray as xr
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from same_states import identical

import gigaqc as gq
from gigaqc.base.naming import named
from gigaqc.clusters import PixelModel
from gigaqc.graph.tasks import Packed
from gigaqc.image.labelled import as_image, channel_names
from gigaqc.statistics.statistics import Part, Statistics

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.poisson(RANDOM.integers(20, 90, (4, 4, 48, 48))).astype("u2")
MASK = RANDOM.random((48, 48)) > 0.4
SQUARES = np.kron(RANDOM.integers(0, 5, (4, 6, 6)), np.ones((1, 8, 8), "i8")).astype("i4")
ARRAY = da.from_array(PIXELS, chunks=(2, 2, 24, 24), name="pixels")
LABELS = xr.DataArray(
    da.from_array(SQUARES, chunks=(1, 24, 24), name="labels"), dims=("z", "y", "x")
)
TRIANGLE, BOX = shapely.Polygon([(2, 3), (40, 8), (20, 44)]), shapely.box(4, 4, 30, 30)


def image(dims: str = "czyx", **attrs: Any) -> xr.DataArray:
    """The one array, read in some way."""
    return xr.DataArray(ARRAY, dims=tuple(dims), attrs=attrs)


def with_names(read: xr.DataArray) -> xr.DataArray:
    return read.assign_coords(c=[f"n{i}" for i in range(4)]) if "c" in read.dims else read


def with_places(read: xr.DataArray) -> xr.DataArray:
    return read.assign_coords(y=np.arange(48) * 2.0, x=np.arange(48) * 2.0)


READINGS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "of floats": lambda i: i.astype("f4"),
    "in other chunks": lambda i: i.chunk(y=16),
    "with channel names": with_names,
    "at places": with_places,
    "with a pixel size": lambda i: i.assign_attrs(pixel_size={"y": 0.5, "x": 0.5}),
    "with another pixel size": lambda i: i.assign_attrs(pixel_size={"y": 2.0, "x": 2.0}),
    "with a unit": lambda i: i.assign_attrs(pixel_size={"y": 0.5, "x": 0.5}, unit="micrometer"),
    "of a source": lambda i: i.assign_attrs(source="a.tif"),
    "of another source": lambda i: i.assign_attrs(source="b.tif"),
}
"""What the image of a request may be otherwise, its dims apart."""


@dataclass(frozen=True)
class Of:
    """An argument that depends on the image."""

    make: Callable[[xr.DataArray], Any]


SCANNED = Of(lambda i: gq.scan(i, parts=Part.MOMENTS))
OTHERWISE_SCANNED = Of(lambda i: gq.scan(i + np.uint16(1)))


@dataclass(frozen=True)
class Lazy:
    """A lazy function: arguments, other values of each, and arguments that change no result.

    `dims` are those that the one array has, as it is and otherwise (none where that can't be).
    """

    base: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    same: frozenset[str] = frozenset()
    dims: tuple[str, ...] = ("czyx", "tcyx")
    call: Callable[..., Any] | None = None

    def wanted(self) -> dict[str, Any]:
        """Everything that may be asked otherwise: dims, what an image becomes, or an argument."""
        changes: dict[str, Any] = {f"as {dims}": dims for dims in self.dims[1:]} | READINGS
        for name, values in self.others.items():
            changes |= {f"{name}={k}": {name: value} for k, value in enumerate(values)}
        return changes

    def build(self, function: Callable[..., Any], *changes: str) -> Any:
        """The request with some of `wanted`."""
        asked = [self.wanted()[change] for change in changes]
        source = image(next((a for a in asked if isinstance(a, str)), self.dims[0]))
        arguments = dict(self.base)
        for change in asked:
            if isinstance(change, dict):
                arguments |= change
            elif callable(change):
                source = change(source)
        given = {k: v.make(source) if isinstance(v, Of) else v for k, v in arguments.items()}
        return (self.call or function)(source, **given)


def of_labels(source: xr.DataArray, labels: Any, **options: Any) -> xr.Dataset:
    return gq.segmentation_quality(labels, source, **options)


def predicted(source: xr.DataArray, centres: Any, mask: Any = None) -> xr.DataArray:
    """Labels by a model of the first two channels."""
    channels, none = channel_names(as_image(source))[:2], np.empty(0)
    model = PixelModel("kmeans", tuple(channels), np.array(centres), none, none, np.array([1, 2]))
    return model.predict(source, mask=mask)


MASKED = {"mask": (MASK, MASK.T, BOX, TRIANGLE)}
PAIR = {"x": 0, "y": 1}
SERIES = {"dims": ("tcyx", "tzyx"), "same": frozenset({"dims"})}

LAZY: dict[str, Lazy] = {
    "scan": Lazy(
        others={
            "labels": (LABELS, LABELS + 1),
            **MASKED,
            "tile": (16,),
            "quantiles": ((0.3,),),
            "nonzero_quantiles": ((0.3,),),
            "thresholds": ((5.0,),),
            "parts": (Part.MOMENTS,),
            "spectrum": (True,),
            "refine": (False,),
            "on_error": ("mask",),
        }
    ),
    "quantile": Lazy({"q": 0.5}, {"q": (0.9, [0.5, 0.9]), **MASKED, "ignore_zeros": (True,)}),
    "histogram": Lazy(
        others={"bins": (10, (0.0, 5.0, 90.0)), "range": ((0.0, 50.0), (0.0, 60.0)), **MASKED}
    ),
    "joint_histogram": Lazy(
        PAIR, {"x": (1,), "y": (0,), "bins": (16,), "range": (((0, 50), (0, 60)), ((0, 9), None))}
    ),
    "signal_to_noise": Lazy(others={**MASKED, "percentile": (20,), "by": ("z",)}, dims=("czyx",)),
    "channel_correlation": Lazy(others=MASKED),
    "colocalization": Lazy(
        PAIR, {"x": (2,), "y": (2,), "thresholds": ((3.0, 4.0), (4.0, 3.0))}, frozenset({"labels"})
    ),
    "stained_area": Lazy(others={"threshold": (5.0, 6.0)}, same=frozenset({"labels"})),
    "tissue_integrity": Lazy(
        {"channel": 0}, {"channel": (1,), "method": ("otsu",), "min_coverage": (0.5,)}
    ),
    "acquisition_artifacts": Lazy(others={"full_scale": (100.0,)}),
    "dynamic_range": Lazy(others={"percentiles": ((5, 95),)}),
    "focus": Lazy(others={"tile": (16,), "spectrum": (True,)}),
    "segmentation_quality": Lazy(
        {"labels": LABELS},
        {
            "labels": (LABELS + 1, LABELS.assign_attrs(pixel_size={"y": 2.0, "x": 2.0}, unit="um")),
            "tissue": (MASK, MASK.T),
            "ring": (2, 3),
            "tile": (16,),
            "connectivity": (4,),
        },
        dims=("czyx",),
        call=of_labels,
    ),
    "isnr": Lazy(
        others={
            "n_clusters": (2,),
            "noise_mask": (MASK, MASK.T),
            "correction": (None,),
            "by": ("z",),
        },
        dims=("czyx",),
    ),
    "isnr_map": Lazy(
        others={
            "n_clusters": (2,),
            "noise_mask": (MASK, MASK.T),
            "correction": (None,),
            "statistics": (SCANNED, OTHERWISE_SCANNED),
        }
    ),
    "isnr_map by": Lazy(
        others={"by": ("z",)}, dims=("czyx",), call=lambda source, **by: gq.isnr_map(source, **by)
    ),
    "isnr_components": Lazy(
        others={"n_clusters": (2,), "statistics": (SCANNED, OTHERWISE_SCANNED)}
    ),
    "tsnr_map": Lazy(
        others={
            "detrend": (1,), "ddof": (1,), "baseline": ("intercept",), "invalid": ("zero",),
            **MASKED,
        },
        **SERIES,
    ),
    "temporal_statistics": Lazy(others={"detrend": (1,), "ddof": (1,), **MASKED}, **SERIES),
    "gain_map": Lazy(
        others={
            "nbins": (20,), "offset": (3.0,), "estimator": ("variance",), "memory": ("20MB",),
        },
        dims=SERIES["dims"],
        same=frozenset({"dims", "temporary"}),
    ),
    "arcsinh": Lazy(others={"cofactor": (150.0,)}),
    "equalize_histogram": Lazy(others={"nbins": (64,)}),
    "gaussian_blur": Lazy({"sigma": 1.0}, {"sigma": (2.0, 0.5)}),
    "normalize_percentiles": Lazy(
        others={
            "low": (1.0,), "high": (90.0,), "clip": (True,), "ignore_zeros": (False,),
            "statistics": (SCANNED, OTHERWISE_SCANNED),
        }
    ),
    "normalize_to_channel": Lazy(
        {"reference": 0}, {"reference": (1,), "statistics": (SCANNED, OTHERWISE_SCANNED)}
    ),
    "remove_hot_pixels": Lazy({"threshold": 5}, {"threshold": (9,)}),
    "pixel_clustering_preprocess": Lazy(
        others={
            "channels": ([0, 1], [1, 0]), "q": (90, None), "q_sum": (10, None),
            "q_post": (90, None), "sigma": (1, None), "norm_sum": (False,), "cap": (1.0,),
            "pool": ("exact",),
        }
    ),
    "region": Lazy(
        {"where": np.s_[8:40, 8:40]},
        {
            "where": (np.s_[8:40, 8:30], (4, 4, 30, 30), TRIANGLE, BOX, MASK, MASK.T),
            "outside": (0,),
        },
    ),
    "region of a scan": Lazy(
        {"where": np.s_[8:40, 8:40]},
        {"where": (np.s_[8:40, 8:32], TRIANGLE, np.tri(48, dtype="?"), np.tri(48, dtype="?").T)},
        call=lambda source, where: gq.region(gq.scan(source, tile=8), where),
    ),
    "segment_nuclei": Lazy(
        {"channel": 0},
        {
            "channel": (1,), "diameter": (6.0,), "tile": (16,), "overlap": (8,),
            "on_error": ("skip",), "threshold": (30.0, 40.0), "sigma": (1.0,),
            "min_distance": (2,), "min_area": (4,),
        },
        frozenset({"method", "normalize", "temporary", "options"}),
    ),
    "PixelModel.predict": Lazy(
        {"centres": [[30.0, 40.0], [60.0, 50.0]]},
        {"centres": ([[30.0, 60.0], [40.0, 50.0]],), **MASKED},
        call=predicted,
    ),
}  # fmt: skip

NOT_LAZY = {
    "Assessment", "Cohort", "Metric", "PixelClusters", "PixelModel", "Rules", "Statistics",
    "__version__",
    "errors", "pl", "testing", "typing",  # no function of an image
    "add_metric", "metrics", "remove_metric",
    "assess", "assess_batch", "choose_n_clusters", "cluster_pixels", "count_nuclei", "explain",
    "list_images",
    "object_table", "tsnr_summary", "unexpected_correlations", "write_image", "write_labels",
    "example_image", "open_image", "open_labels",  # each opened image has a name of its own
    "to_gpu",  # named by dask
    "spatial",  # the same functions: those below
}  # fmt: skip
SPATIAL = {
    "gain_map", "isnr_map", "pixel_clustering_preprocess", "segment_nuclei", "tsnr_map",
    "add_images", "assess", "cluster_pixels",  # not lazy
}  # fmt: skip


def function_of(name: str) -> Callable[..., Any]:
    return getattr(gq, name, lambda source: source)


def request(name: str, *changes: str) -> Any:
    return LAZY[name].build(function_of(name), *changes)


def graph_of(result: Any) -> dict[Any, GraphNode]:
    return convert_legacy_graph(dict(result.__dask_graph__()))


def clashes(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> Iterator[Any]:
    """Keys that stand for different tasks in two graphs."""
    return (key for key in first.keys() & second.keys() if not same(first[key], second[key]))


def same(a: Any, b: Any) -> bool:
    """Whether two tasks, or what they are given, are the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Packed):
        return same(a.unpacked(), b.unpacked())
    if isinstance(a, Task):
        return same((a.key, a.func, a.args, a.kwargs), (b.key, b.func, b.args, b.kwargs))
    if isinstance(a, TaskRef):
        return a.key == b.key
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, partial):
        return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return pickled(a) == pickled(b)


def pickled(value: Any) -> bytes:
    return cloudpickle.dumps(value)


def test_every_public_function_is_in_one_of_the_tables() -> None:
    names = {name for name in LAZY if "." not in name and " " not in name}
    assert names | NOT_LAZY == set(gq.__all__) and not names & NOT_LAZY
    assert set(gq.spatial.__all__) == SPATIAL


@pytest.mark.parametrize("name", [n for n in LAZY if n in gq.__all__])
def test_every_argument_is_in_the_table(name: str) -> None:
    lazy, (first, *arguments) = LAZY[name], inspect.signature(function_of(name)).parameters
    rows = [row for key, row in LAZY.items() if key.partition(" ")[0] == name]
    named_ones = {a for row in rows for a in (*row.base, *row.others, *row.same)}
    named_ones -= {"image", first}
    beside = {"threshold", "sigma", "min_distance", "min_area"} if "options" in arguments else set()
    assert named_ones == {*arguments, *beside} - {"image"}, "give each another value to differ in"
    assert first in lazy.others or lazy.call is None


@pytest.mark.parametrize("name", LAZY)
def test_what_is_asked_otherwise_shares_no_name(name: str) -> None:
    """Each change by itself, against the plain request and against one another."""
    tasks: dict[Any, Any] = {}
    for change in LAZY[name].wanted():
        graph = graph_of(request(name, change))
        assert not list(clashes(tasks, graph)), change
        tasks |= graph
    assert not list(clashes(tasks, graph_of(request(name))))


@pytest.mark.parametrize("name", LAZY)
def test_the_same_request_has_the_same_names(name: str) -> None:
    plain, again = graph_of(request(name)), graph_of(request(name))
    assert plain.keys() == again.keys()
    assert not list(clashes(plain, again))


def drawn_changes(name: str) -> st.SearchStrategy[tuple[str, list[str], str]]:
    changes = st.sampled_from(list(LAZY[name].wanted()))
    return st.tuples(st.just(name), st.lists(changes, max_size=3, unique=True), changes)


@settings(max_examples=60)
@given(st.sampled_from(list(LAZY)).flatmap(drawn_changes))
def test_requests_that_differ_in_one_thing_share_no_name(drawn: tuple[str, list[str], str]) -> None:
    name, common, change = drawn
    try:
        graphs = [graph_of(request(name, *changes)) for changes in (common, [*common, change])]
    except gq.errors.GigaqcError:  # changes that do not go together
        assume(False)
    assert not list(clashes(*graphs))


COMPUTED = [
    "scan", "histogram", "stained_area", "tissue_integrity", "segmentation_quality",
    "tsnr_map", "gain_map", "gaussian_blur", "normalize_percentiles", "region", "segment_nuclei",
    "pixel_clustering_preprocess", "PixelModel.predict",
]  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_together_as_alone(name: str) -> None:
    """The plain request, one of other dims, and one of each kind of other argument."""
    lazy = LAZY[name]
    changes = [(), ("with another pixel size",), *((f"as {dims}",) for dims in lazy.dims[1:])]
    changes += [(f"{argument}=0",) for argument in list(lazy.others)[:2]]
    changes += [("mask=1",)] if "mask" in lazy.others else []
    alone = [request(name, *c).compute() for c in changes]
    together = dask.compute(*(request(name, *c) for c in changes))
    for got, right in zip(together, alone, strict=True):
        assert_identical(got, right)


def assert_identical(got: Any, right: Any) -> None:
    """The same to the bit, and said of it."""
    if isinstance(got, Statistics):
        identical(got, right)
    else:
        assert got.identical(right)


def test_elements_of_one_array_share_no_name() -> None:
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel

    planes = ARRAY[:, 0]
    elements = {
        name: Image2DModel.parse(planes, dims=("c", "y", "x"), c_coords=list(channels))
        for name, channels in (("one", "abcd"), ("other", "dcba"))
    }
    sdata = spatialdata.SpatialData(images=elements)
    made = {}
    for name in elements:
        gq.spatial.segment_nuclei(sdata, name, f"{name}_nuclei", "a", tile=32)
        gq.spatial.pixel_clustering_preprocess(sdata, name, f"{name}_made", ["a", "b"], sigma=1)
        made[name] = [graph_of(sdata[f"{name}_{kind}"].data) for kind in ("nuclei", "made")]
    for first, second in zip(made["one"], made["other"], strict=True):
        assert not list(clashes(first, second))


@pytest.mark.same_process
def test_what_is_asked_twice_is_read_once() -> None:
    read: list[Any] = []

    def counted(block: np.ndarray) -> np.ndarray:
        read.append(block.shape)
        return block

    source = xr.DataArray(
        ARRAY.map_blocks(counted, dtype="u2", meta=np.empty((0,) * 4, "u2")), dims=tuple("tcyx")
    )
    requests: list[Callable[[], Any]] = [
        lambda: gq.scan(source),
        lambda: gq.gaussian_blur(source, 1),
        lambda: gq.tsnr_map(source, detrend=0),
        lambda: gq.tissue_integrity(source, 0),
    ]
    for ask in requests:
        read.clear()
        dask.compute(ask())
        once = len(read)
        read.clear()
        first, second = dask.compute(ask(), ask())
        assert len(read) == once
        assert_identical(first, second)


def test_arrays_in_memory_have_names_of_their_own() -> None:
    square = PIXELS[0]
    first, second = (gq.gaussian_blur(square, 1).data for _ in range(2))
    assert not set(first.__dask_graph__()) & set(second.__dask_graph__())


SQUARE = RANDOM.integers(0, 9, (6, 6))
PACKED = [np.dtype([("a", "u1"), ("b", kind)]) for kind in ("u1", "?")]
OPERANDS: list[tuple[Any, Any]] = [
    (SQUARE, SQUARE.T),
    (SQUARE, SQUARE.astype("u8")),
    (SQUARE.ravel()[:12].reshape(3, 4), SQUARE.ravel()[:12].reshape(4, 3)),
    (np.array(["a-b", "c"], object), np.array(["a", "b-c"], object)),
    (PACKED[0], PACKED[1]),
    ({"a": SQUARE}, {"a": SQUARE.T}),
    (partial(np.add, SQUARE), partial(np.add, SQUARE.T)),
    (partial(np.add, 1), partial(np.subtract, 1)),
    (lambda x: x + 1, lambda x: x + 2),
    (Part.MOMENTS, Part.FOCUS),
    (1, 1.0), (1, True), (1, "1"), (None, "None"), ((1, 2), [1, 2]), (("a", "b"), ("a, b",)),
    (ARRAY, ARRAY.rechunk(24)), (ARRAY, ARRAY.astype("f4")),
    (image("tcyx"), image("czyx")),
    (image().rename("a"), image().rename("b")),
    (image(affine=SQUARE), image(affine=SQUARE.T)),
    (image(transform={"global": 1}), image(transform={"aligned": 1})),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), OPERANDS)
def test_operands_that_differ(first: Any, second: Any) -> None:
    assert named("a", first) != named("a", second)
    again = pickle.loads(cloudpickle.dumps(first))
    assert named("a", first) == named("a", first)
    assert named("a", first) == named("a", again)
    assert named("a", first) != named("b", first)
    assert named("a", first, second) != named("a", second, first)


def test_each_field_of_a_specification_is_in_its_name() -> None:
    given = {"image": image(), "depth": 1, "table": SQUARE, "parts": Part.MOMENTS}
    changed = {"image": image("tcyx"), "depth": 2, "table": SQUARE.T, "parts": Part.FOCUS}
    kind = make_dataclass("Specification", list(given), frozen=True)
    names = {named("a", kind(**given)), named("a", kind(**given))}
    assert len(names) == 1
    names |= {named("a", kind(**{**given, name: value})) for name, value in changed.items()}
    names.add(named("a", make_dataclass("Other", list(given), frozen=True)(**given)))
    assert len(names) == 2 + len(changed)


class Opened:
    """What can be copied, but not pickled."""

    def __deepcopy__(self, memo: Any) -> Opened:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("it is open")


def test_what_cannot_be_told_is_the_same_as_nothing() -> None:
    unknown = image(opened=Opened())
    assert named("a", unknown) != named("a", unknown)
    blurred = [gq.gaussian_blur(unknown, 1) for _ in range(2)]
    for got in dask.compute(*blurred):
        np.testing.assert_array_equal(got.values, gq.gaussian_blur(image(), 1).values)


def test_labels_of_a_function_are_its_own() -> None:
    """Hashing a function may be to read a model's weights."""
    first, second = (
        gq.segment_nuclei(image(), 0, tile=32, method=lambda b: (b > 60).astype("i4")).data
        for _ in range(2)
    )
    assert first.name != second.name


def test_naming_an_image_computes_nothing() -> None:
    with gq.testing.forbid_compute():
        for name in LAZY:
            request(name)
