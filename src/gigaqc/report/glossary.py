"""What each number is, in words: labels, explanations, and which way is good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gigaqc.plot import printable
from gigaqc.rules import EXPLANATIONS

Kind = Literal["number", "fraction", "count", "flag"]
Better = Literal["higher", "lower", "near 1", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of the channel table.

    Attributes
    ----------
    key
        Its column in the table of channels.
    label, what
        Its name and its explanation for a reader who does not know the formula.
    better
        Which way is good; empty where neither is.
    kind
        How it is written; a fraction is shown in percent.
    primary
        Whether the table shows it before "all columns" is asked for.
    """

    key: str
    label: str
    what: str
    better: Better = ""
    kind: Kind = "number"
    primary: bool = False


METRICS: tuple[Metric, ...] = (
    Metric(
        "autocorrelation_snr",
        "Structure SNR",
        "Signal against noise, from how alike neighbouring pixels are: r / (1 - r), r the mean "
        "correlation of a pixel with its right and lower neighbour. 0 for pure noise.",
        "higher",
        primary=True,
    ),
    Metric(
        "snr",
        "SNR (recipe)",
        "Mean of the pixels above the channel's threshold percentile, over the standard deviation "
        "of the rest. Bright noise scores well here too: read it beside the structure SNR.",
        "higher",
        primary=True,
    ),
    Metric(
        "separability",
        "Separability",
        "How clearly the values fall into background and foreground: variance between Otsu's two "
        "classes over the total variance. 0.64 for structureless noise, 1 for two clean levels.",
        "higher",
        primary=True,
    ),
    Metric(
        "contrast_to_noise",
        "Contrast to noise",
        "Foreground mean less background mean, over the background's standard deviation (classes "
        "by Otsu's threshold).",
        "higher",
        primary=True,
    ),
    Metric("mean", "Mean", "Mean of all measured pixels.", primary=True),
    Metric(
        "range_utilized",
        "Range used",
        "Distance from the 1st to the 99th percentile, as a share of the maximum.",
        "higher",
        "fraction",
        primary=True,
    ),
    Metric(
        "clipped_fraction",
        "Clipped",
        "Pixels at the detector's ceiling, whose true brightness is lost.",
        "lower",
        "fraction",
        primary=True,
    ),
    Metric(
        "hot_pixel_fraction",
        "Hot pixels",
        "Single pixels far brighter than the median of their 3 x 3 neighbourhood (8 sigma).",
        "lower",
        "fraction",
        primary=True,
    ),
    Metric(
        "dead_area_fraction",
        "Dead area",
        "Zeros that lie in all-zero windows of 8 x 8 pixels. Not measured where more than half of "
        "the channel is zero anyway.",
        "lower",
        "fraction",
        primary=True,
    ),
    Metric(
        "row_striping",
        "Row stripes",
        "How much row means jump from row to row, over what noise alone explains.",
        "near 1",
        primary=True,
    ),
    Metric(
        "column_striping",
        "Column stripes",
        "The same for columns.",
        "near 1",
        primary=True,
    ),
    Metric("signal", "Signal", "Mean of the pixels counted as signal by the recipe's SNR."),
    Metric("noise", "Noise", "Standard deviation of the pixels the recipe's SNR counts as noise."),
    Metric(
        "signal_to_background",
        "Signal to background",
        "Foreground mean over background mean (classes by Otsu's threshold).",
        "higher",
    ),
    Metric("otsu_threshold", "Otsu threshold", "The value that best splits the histogram in two."),
    Metric(
        "autocorrelation",
        "Neighbour correlation",
        "Mean Pearson correlation of a pixel with its right and lower neighbour.",
        "higher",
    ),
    Metric("clipping_level", "Clipping level", "The value at which pixels pile up."),
    Metric(
        "hot_pixel_structure",
        "Hot pixels from structure",
        "The part of the hot pixels that is no farther above its neighbours than structure and "
        "noise of this channel reach below them; it raises their limit.",
        "",
        "fraction",
    ),
    Metric(
        "recipe_saturation",
        "Saturation (recipe)",
        "Pixels of at least 0.99 times the maximum.",
        "lower",
        "fraction",
    ),
    Metric(
        "recipe_hot_pixels",
        "Hot pixels (recipe)",
        "Pixels above twice the 99.9th percentile. It can never exceed 0.1 %.",
        "lower",
        "fraction",
    ),
    Metric(
        "recipe_dead_regions",
        "Zeros (recipe)",
        "Pixels equal to 0, wherever they lie; sparse counting data is mostly zero.",
        "lower",
        "fraction",
    ),
    Metric(
        "recipe_striping",
        "Striping (recipe)",
        "Standard deviation of the row means over their mean; tissue itself raises it.",
        "lower",
    ),
    Metric("range_low", "1st percentile", "1 % of the pixels lie below this value."),
    Metric("range_high", "99th percentile", "1 % of the pixels lie above this value."),
    Metric("adequate", "Range adequate", "Whether the range used exceeds 10 %.", "", "flag"),
    Metric("std", "Std", "Standard deviation of all measured pixels."),
    Metric("min", "Min", "Smallest value."),
    Metric("max", "Max", "Largest value."),
    Metric("zero_fraction", "Zeros", "Pixels equal to 0.", "", "fraction"),
    Metric("n_valid", "Pixels measured", "Finite pixels inside the mask.", "", "count"),
    Metric(
        "n_excluded", "Pixels excluded", "NaN, infinite, or outside the mask.", "lower", "count"
    ),
    Metric(
        "whole_variance_of_laplacian",
        "Sharpness (Laplacian)",
        "Variance of the Laplacian: fine detail. Compare only images of the same stain and "
        "exposure; noise raises it.",
        "higher",
    ),
    Metric(
        "whole_tenengrad",
        "Sharpness (gradient)",
        "Mean squared Sobel gradient: edges. Compare as above.",
        "higher",
    ),
)
"""The known columns, in the order in which the table shows them."""

OBJECTS: tuple[Metric, ...] = (
    Metric("n_cells", "Cells", "Objects of the label image.", "", "count"),
    Metric("quality", "Quality", "GOOD where areas vary by less than half and fewer than a tenth "
           "are elongated, else REVIEW; EMPTY without an object."),
    Metric("mean_area", "Mean area", "In pixels."),
    Metric("median_area", "Median area", "In pixels."),
    Metric("area_cv", "Area variation", "Std of the areas over their mean.", "lower"),
    Metric("fraction_elongated", "Elongated", "Eccentricity above 0.9.", "lower", "fraction"),
    Metric("fraction_outlier_small", "Far smaller", "Area below the median by more than three "
           "robust standard deviations.", "lower", "fraction"),
    Metric("fraction_outlier_large", "Far larger", "The same above.", "lower", "fraction"),
    Metric("n_border", "At the border", "Objects that the border of the image cuts.", "", "count"),
    Metric("n_fragmented", "In pieces", "Ids in several pieces.", "lower", "count"),
    Metric("fraction_fragmented", "In pieces", "The same over all ids.", "lower", "fraction"),
    Metric("n_with_holes", "With holes", "Ids that enclose a hole.", "lower", "count"),
    Metric("labelled_fraction", "Labelled", "Pixels of an object over all.", "", "fraction"),
)  # fmt: skip
"""Numbers of a label image, in the order in which the page shows them."""


SUMMARY_LABELS: dict[str, tuple[str, Kind]] = {
    "coverage": ("Tissue coverage", "fraction"),
    "n_fragments": ("Tissue fragments", "count"),
    "fragmentation": ("Fragmentation", "fraction"),
    "intact": ("Tissue intact", "flag"),
    "tissue_channel": ("Tissue channel", "number"),
    "min_snr": ("Lowest SNR", "number"),
    "mean_snr": ("Mean SNR", "number"),
    "n_cells": ("Cells", "count"),
}
"""Numbers of the summary that stand beside the verdict."""


def metric(key: object) -> Metric:
    """The entry for a column; one without an explanation is made from its name.

    Parameters
    ----------
    key
        The column's name.
    """
    name = str(key)
    known = BY_KEY.get(name)
    return known or Metric(name, name.replace("_", " ").strip().capitalize() or name, "")


CORRELATION = Metric(
    "correlation",
    "Correlation",
    "Pearson's correlation of two channels over all pixels. Above 0.7 a pair is outlined in the "
    "matrix; beyond the limit it is flagged.",
)
"""What pairs of channels are judged by."""

TISSUE: tuple[Metric, ...] = (
    Metric("coverage", "Tissue coverage", "Tissue over all measured pixels: what is brighter than "
           "a threshold in the blurred tissue channel.", "", "fraction"),
    Metric("n_fragments", "Tissue fragments", "Pieces of the tissue, pixels of which touch along a "
           "side.", "", "count"),
    Metric("fragmentation", "Fragmentation", "Tissue outside of its largest piece.", "lower",
           "fraction"),
)  # fmt: skip
"""Numbers of the tissue mask."""

BY_KEY = {m.key: m for m in (*METRICS, *OBJECTS, *TISSUE, CORRELATION)}

_PASSED = "is within its limit."
_LENGTH = 600


def cure_of(key: str) -> str:
    """What to do where a metric misses its limit; empty where no rule judges it.

    The words are those of the rules.

    Parameters
    ----------
    key
        The metric.
    """
    about = EXPLANATIONS.get(key)
    return about.cure if about else ""


def without_cure(key: str, reason: str) -> str:
    """What a flag says was found: its reason less what to do and less the number in brackets.

    Both stand beside it on the page; nothing is left of a flag that only says that it passed.

    Parameters
    ----------
    key, reason
        Of the flag.
    """
    text = printable(reason, _LENGTH)
    about = EXPLANATIONS.get(key)
    if about is None:
        return text
    if text.endswith(_PASSED):
        return ""
    rest = text.removesuffix(about.cure).strip()
    if rest.lower().startswith(f"{about.meaning.lower()} ({key} "):
        return rest[: len(about.meaning)] + "."
    return rest
