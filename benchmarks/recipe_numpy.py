"""How much faster than the recipe's checks on whole numpy arrays?

    python benchmarks/recipe_numpy.py [--side 8192] [--channels 4] [--runs 3]

The recipe loads the image and computes, a channel at a time: SNR of the 10th percentile's mask,
saturation, hot pixels, dead regions, striping, dynamic range, the channel correlation and the
tissue of the median mask. `assess` computes all of this and more from the same store.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import zarr
from _measure import in_turn, report, slide
from scipy import ndimage

import gigaqc as gq


def recipe(path: Path) -> dict[str, float]:
    """The recipe's numbers of a whole image in memory."""
    image = zarr.open_array(path, mode="r")[:]
    found: dict[str, float] = {}
    for c, channel in enumerate(image):
        mask = channel > np.percentile(channel, 10)
        found[f"snr {c}"] = channel[mask].mean() / channel[~mask].std()
        found[f"saturation {c}"] = (channel >= 0.99 * channel.max()).mean()
        found[f"hot {c}"] = (channel > 2 * np.percentile(channel, 99.9)).mean()
        found[f"dead {c}"] = (channel == 0).mean()
        rows = channel.mean(axis=1)
        found[f"striping {c}"] = rows.std() / rows.mean()
        low, high = np.percentile(channel, [1, 99])
        found[f"range {c}"] = (high - low) / channel.max()
    correlation = np.corrcoef(image.reshape(len(image), -1))
    found["correlation"] = correlation[0, 1]
    tissue = image[0] > np.percentile(image[0], 50)
    labels, count = ndimage.label(tissue)
    sizes = np.bincount(labels.ravel())[1:]
    found["coverage"], found["fragments"] = tissue.mean(), count
    found["fragmentation"] = 1 - sizes.max() / sizes.sum()
    return found


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(folder)) / name, options.channels, options.side)
        image = gq.open_image(path)
        functions = {
            "assess, recipe": lambda: gq.assess(image, rules="recipe", progress=False),
            "assess": lambda: gq.assess(image, progress=False),
            "recipe on numpy": lambda: recipe(path),
        }
        report(in_turn(functions, options.runs), "assess")


if __name__ == "__main__":
    main()
