"""How much faster than the recipe's checks on whole numpy arrays?

    python -m benchmarks.recipe_numpy [--side 8192] [--runs 3]

The recipe loads the image and computes, a channel at a time: SNR of the 10th percentile's mask,
saturation, hot pixels, dead regions, striping, dynamic range, the channel correlation and the
tissue of the median mask. `assess` computes all of this and more from the same store.
"""

from __future__ import annotations

import numpy as np
import zarr
from scipy import ndimage

import gigaqc as gq
from benchmarks._measure import Stored, slide
from benchmarks._question import SLIDE, Question

NUMPY = "the recipe's checks in numpy on the whole array"


def recipe(stored: Stored) -> dict[str, float]:
    """The recipe's numbers of a whole image in memory."""
    image = zarr.open_array(stored.path, mode="r")[:]
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


QUESTIONS = (
    Question(
        name="recipe",
        group="verdict",
        of=SLIDE,
        prepare=slide,
        functions={
            NUMPY: recipe,
            "`assess`": lambda s: gq.assess(s.image, progress=False),
            "`assess`, rules of the recipe": lambda s: gq.assess(
                s.image, rules="recipe", progress=False
            ),
        },
        full={"side": 8192, "channels": 4},
        quick={"side": 1024, "channels": 2},
        runs=2,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
