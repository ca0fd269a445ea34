"""The image that comes along."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from gigaqc.readers.open import open_image


def example_image() -> xr.DataArray:
    """Human HT29 cells, to try things on: a real image that is installed with gigaqc (lazy).

    Returns
    -------
    DataArray
        Dims ``c y x``, 3 x 512 x 512, uint8; channels ``DNA``, ``pH3`` (phospho-histone H3, which
        marks dividing cells) and ``Actin``.

    Notes
    -----
    CC0, images by Jason Moffat; Moffat et al., Cell 124 (2006) 1283-1298, from CellProfiler's
    examples. Some pixels of ``Actin`` are clipped at 255.

    Examples
    --------
    >>> import gigaqc as gq
    >>> gq.example_image().shape
    (3, 512, 512)
    """
    return open_image(Path(__file__).parent.parent / "data" / "ht29.ome.tiff")
