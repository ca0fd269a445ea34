"""What is told of noise: numbers that a function of its own makes, of an image or of a series."""

from __future__ import annotations

from functools import partial

from gigaqc.formulas.record import Metric, Scope, Source

_isnr = partial(Metric, function="isnr", source=Source.SERIES, assessed=False, origin="ukat")
_tsnr = partial(
    Metric, function="temporal_statistics", scope=Scope.PIXEL, source=Source.SERIES,
    assessed=False, origin="ukat",
)  # fmt: skip
_gain = partial(
    Metric, function="gain_map", source=Source.SERIES, assessed=False, exact="1e-9",
    origin="smlmlp, EMVA 1288",
)  # fmt: skip

METRICS = (
    _isnr(
        "isnr",
        "Image SNR",
        "Signal against noise of a whole image, noise being its darkest class of intensities.",
        formula="mean of what is not noise / std of the noise, times sqrt(2 - pi/2)",
        nan="the channel is empty or constant; infinite where the noise is 0",
        range="0..",
        better="higher",
        exact="1e-9, given the mixture",
    ),
    _isnr(
        "signal",
        "Signal",
        "Mean of the intensities that are not noise.",
        formula="mean of x above the threshold",
        unit="DN",
    ),
    _isnr(
        "noise",
        "Noise",
        "Standard deviation of the intensities that are noise.",
        formula="std of x up to the threshold",
        unit="DN",
        range="0..",
    ),
    _isnr(
        "threshold",
        "Threshold",
        "Upper edge of the class that is noise.",
        formula="upper edge of the component with the lowest mean",
        unit="DN",
    ),
    _tsnr(
        "tsnr",
        "Temporal SNR",
        "Mean of a pixel over time, over the spread of what is left after its drift.",
        formula="mean / std of the residuals of a polynomial of t",
        nan="the residuals are 0, or fewer frames than the drift takes",
        range="0..",
        better="higher",
        exact="1e-9",
    ),
    _tsnr("mean", "Mean", "Mean over time.", formula="mean over t", unit="DN"),
    _tsnr(
        "std",
        "Std",
        "Standard deviation of the residuals from the drift.",
        formula="sqrt(sum of squared residuals / (n - ddof))",
        unit="DN",
        range="0..",
    ),
    _tsnr(
        "n_frames",
        "Frames",
        "Valid frames of a pixel.",
        formula="number of finite x over t",
        range="0..",
        kind="count",
        dtype="i8",
    ),
    _gain(
        "gain",
        "Gain",
        "Electrons that a grey level stands for, by the photon-transfer curve.",
        formula="1 / slope of variance over mean",
        nan="not measurable; the reason says why",
        unit="e-/DN",
        range="0..",
    ),
    _gain(
        "system_gain",
        "System gain",
        "Grey levels that an electron gives.",
        formula="slope of variance over mean",
        nan="a fit is impossible",
        unit="DN/e-",
    ),
    _gain(
        "read_noise",
        "Read noise",
        "Noise without light; known where the offset is.",
        formula="sqrt(variance of the line at the offset) x gain",
        nan="the offset is not known",
        unit="e-",
        range="0..",
        better="lower",
    ),
    _gain(
        "rvalue",
        "Correlation of the line",
        "How well variance follows the mean over the bins.",
        formula="Pearson's r over the bins of the fit",
        range="-1..1",
        better="higher",
    ),
)
