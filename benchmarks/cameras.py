"""How well are simulated cameras recovered? Both estimators; the table of `docs/metrics/gain.md`.

    python -m benchmarks.cameras [--side 200] [--frames 20 100]

Light rises evenly on a logarithmic scale over the frame; electrons are Poisson counts with Gaussian
read noise, divided by the gain, offset, rounded and cut to 16 bits.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

import gigaqc as gq

GAINS = (0.2, 1.0, 5.0)  # e-/ADU
DARK = ((0, 0), (0, 5), (100, 5), (200, 2))  # offset in ADU, read noise in e-
LIGHT = ((5, 5000), (5, 50), (500, 5000))  # e-


def camera(
    light: np.ndarray, frames: int, gain: float, offset: float, read: float, seed: int
) -> np.ndarray:
    """Frames of a constant scene."""
    rng = np.random.default_rng(seed)
    shape = (frames, *light.shape)
    electrons = rng.poisson(light, shape) + rng.normal(0, read, shape)
    return np.clip(np.rint(electrons / gain + offset), 0, 65535).astype("u2")


def said(frames: np.ndarray, estimator: str, gain: float) -> str:
    """How far off a gain is, in per cent."""
    found = gq.gain_map(frames, dims="tyx", estimator=estimator).compute()
    if not found.measurable:
        return "not measurable"
    off = f"{100 * (float(found.gain) / gain - 1):+.1f} %"
    return off + (" (quantised)" if found.quantised else "")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=200)
    parser.add_argument("--frames", type=int, nargs="+", default=[20, 100])
    options = parser.parse_args()
    heads = [f"{e}, {n} frames" for n in options.frames for e in ("`mad`", "`variance`")]
    print("| gain e⁻/ADU | offset | read noise | light e⁻ |", " | ".join(heads), "|")
    print("|" + "---|" * (4 + len(heads)))
    for seed, (gain, (offset, read), ends) in enumerate(itertools.product(GAINS, DARK, LIGHT)):
        light = np.geomspace(*ends, options.side**2).reshape(options.side, options.side)
        row = []
        for frames in options.frames:
            series = camera(light, frames, gain, offset, read, seed)
            row += [said(series, estimator, gain) for estimator in ("mad", "variance")]
        print(f"| {gain} | {offset} | {read} | {ends[0]}–{ends[1]} |", " | ".join(row), "|")


if __name__ == "__main__":
    main()
