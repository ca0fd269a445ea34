"""``image.gq``: the verbs as methods of an `xarray.DataArray`.

Registered when xarray is imported, whether before gigaqc or after, so that ``import gigaqc`` need
not import it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gigaqc.errors import no_attribute

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

VERBS = (
    "acquisition_artifacts",
    "arcsinh",
    "assess",
    "channel_correlation",
    "choose_n_clusters",
    "cluster_pixels",
    "colocalization",
    "count_nuclei",
    "dynamic_range",
    "equalize_histogram",
    "explain",
    "focus",
    "gain_map",
    "gaussian_blur",
    "histogram",
    "isnr",
    "isnr_components",
    "isnr_map",
    "joint_histogram",
    "normalize_percentiles",
    "normalize_to_channel",
    "object_table",
    "pixel_clustering_preprocess",
    "quantile",
    "region",
    "remove_hot_pixels",
    "scan",
    "segment_nuclei",
    "segmentation_quality",
    "signal_to_noise",
    "stained_area",
    "temporal_statistics",
    "tissue_integrity",
    "to_gpu",
    "tsnr_map",
    "tsnr_summary",
    "write_image",
    "write_labels",
)
"""Public functions whose first argument is an image, images, a series, or labels."""


_find: list[Callable[[str], Any]] = []  # the verb of a name, as the package tells it


class _Verb:
    """A method that is made of a public function when it is first looked at."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, accessor: ImageAccessor | None, owner: type[ImageAccessor]) -> Any:
        verb = _find[0](self.name)
        return verb if accessor is None else _bound(verb, accessor._image)


def _bound(verb: Callable[..., Any], image: Any) -> Callable[..., Any]:
    """The function of what comes after the image, with signature and docstring."""
    import inspect

    @functools.wraps(verb)
    def method(*arguments: Any, **named: Any) -> Any:
        return verb(image, *arguments, **named)

    signature = inspect.signature(verb)
    others = list(signature.parameters.values())[1:]
    method.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return method


class ImageAccessor:
    """The verbs of gigaqc on this image: ``image.gq.assess()`` is ``gigaqc.assess(image)``."""

    def __init__(self, image: Any) -> None:
        self._image = image

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("image.gq", name, VERBS)


for _name in VERBS:
    setattr(ImageAccessor, _name, _Verb(_name))


def register() -> None:
    """Give `xarray.DataArray` the attribute; again is nothing."""
    import xarray

    if not hasattr(xarray.DataArray, "gq"):
        xarray.register_dataarray_accessor("gq")(ImageAccessor)


class _AfterXarray:
    """Finds xarray as the others do, and registers once it has been imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The spec of xarray; None for all else."""
        if name != "xarray":
            return None
        others = (f for f in sys.meta_path if not isinstance(f, _AfterXarray))
        finders = (f.find_spec for f in others if hasattr(f, "find_spec"))
        spec = next((s for find in finders if (s := find(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: Any) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                register()

            spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def install(find: Callable[[str], Any]) -> None:
    """Register now where xarray is there, else when it is imported; `find` gives verbs by name."""
    _find[:] = [find]
    known = sys.modules.get("xarray")
    if hasattr(known, "register_dataarray_accessor"):
        register()
    elif not any(isinstance(finder, _AfterXarray) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterXarray())
