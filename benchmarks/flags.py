"""How often the sturdier rules hit an artifact of known size, and how often they cry wolf.

    python -m benchmarks.flags                                prints the tables
    python -m benchmarks.flags --write docs/metrics/flags.md  puts them between its markers

Phantoms of known answer (`gigaqc.testing`), several seeds each; a hit or an alarm is WARN or FAIL
of the rule. The recipe's counterpart is judged on the same images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import gigaqc as gq
from benchmarks import _page
from gigaqc.formulas.rules import Rules, Status
from gigaqc.testing import (
    Phantom,
    clipped,
    dead_block,
    defocused,
    gaussian,
    hot_pixels,
    poisson,
    spilled,
    tissue,
)
from gigaqc.verdict.judge import Flag, judge_channels

MEANS = (0.05, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
SEEDS = {64: 40, 256: 8, 1024: 2}
ARTIFACT_RULES = (
    "clipped_fraction", "hot_pixel_fraction", "dead_area_fraction", "row_striping",
    "column_striping",
)  # fmt: skip
COUNTERPART = {
    "clipped_fraction": "recipe_saturation",
    "hot_pixel_fraction": "recipe_hot_pixels",
    "dead_area_fraction": "recipe_dead_regions",
    "row_striping": "recipe_striping",
}

Maker = Callable[[tuple[int, int], int], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """Flags of one image by both sets of rules."""

    robust: dict[str, Status]
    recipe: dict[str, Status]


def judge(images: Sequence[np.ndarray]) -> list[Judged]:
    """The verdicts on images of one size, each judged by itself as a channel."""
    names = [str(i) for i in range(len(images))]
    stack = xr.DataArray(np.stack(images), dims=("c", "y", "x"), coords={"c": names})
    table = gq.assess(stack, tissue=False, progress=False).channels
    by_rules = [by_image(table, Rules.named(name)) for name in ("robust", "recipe")]
    return [Judged(*(flags[n] for flags in by_rules)) for n in names]


def by_image(table: pd.DataFrame, rules: Rules) -> dict[str, dict[str, Status]]:
    flags: list[Flag] = judge_channels(rules, table)
    return {n: {f.metric: f.status for f in flags if f.name == n} for n in map(str, table.index)}


def bad(flags: dict[str, Status], metric: str) -> bool:
    return flags.get(metric, Status.PASS) is not Status.PASS


def rate(hits: Sequence[bool]) -> str:
    """`hits/tries`, or a dash where there was no try."""
    return f"{sum(hits)}/{len(hits)}" if hits else "–"


def over_sizes(make: Maker, sizes: Sequence[int]) -> list[Judged]:
    return [
        verdict
        for size in sizes
        for verdict in judge([make((size, size), seed) for seed in range(SEEDS[size])])
    ]


# ---- clean images --------------------------------------------------------------------------------


def counts(mean: float, dtype: str, scale: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    pixels = poisson(shape, mean, dtype=dtype, seed=seed).pixels
    return pixels if scale == 1 else pixels * np.float32(scale)


def noise(mean: float, std: float, dtype: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    return gaussian(shape, mean, std, dtype=dtype, seed=seed).pixels


def specimen(dtype: str, shape: tuple[int, int], seed: int, **look: float) -> np.ndarray:
    return seen(shape, seed, dtype=dtype, **look).pixels


def seen(shape: tuple[int, int], seed: int, **look: Any) -> Phantom:
    """Tissue through optics: nothing is sharper than a Gaussian of 1.5 pixels."""
    sharp = tissue(shape, grain=3, seed=seed, **look)
    return defocused(sharp, 0, 0, *shape, sigma=1.5, seed=seed)


def sharp(dtype: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    return tissue(shape, dtype=dtype, seed=seed).pixels


KINDS = (("uint16", 1.0), ("float32", 1.0), ("float32", 0.37))
"""dtypes of Poisson counts, and the gain that floats may have."""


def clean_families() -> dict[str, tuple[bool, list[Maker]]]:
    """Name of a family: whether it has structure, and how its images are made."""
    families: dict[str, tuple[bool, list[Maker]]] = {
        f"Poisson, mean {mean:g}": (False, [partial(counts, mean, *kind) for kind in KINDS])
        for mean in MEANS
    }
    families["Gaussian, 100 ± 5"] = False, [partial(noise, 100, 5, d) for d in ("u2", "f4")]
    families["Gaussian, 1000 ± 50"] = False, [partial(noise, 1000, 50, d) for d in ("u2", "f4")]
    families["Gaussian, 0 ± 1"] = False, [partial(noise, 0, 1, d) for d in ("f4", "f8")]
    bright = {"mean": 200.0, "background": 5.0}
    dim = {"mean": 20.0, "background": 0.5}
    for name, look in (("tissue, 200 on 5", bright), ("tissue, 20 on 0.5", dim)):
        families[name] = True, [partial(specimen, d, **look) for d in ("u2", "f4")]
    families["tissue with structure of one pixel"] = True, [partial(sharp, d) for d in ("u2", "f4")]
    return families


def clean_table() -> list[list[str]]:
    rows = [["clean image", "signal", "clipped", "hot", "dead", "row stripes", "column stripes"]]
    for name, (structured, makers) in clean_families().items():
        sizes = (256, 1024) if structured else (64, 256, 1024)
        verdicts = [v for make in makers for v in over_sizes(make, sizes)]
        signal = [not bad(v.robust, "autocorrelation_snr") for v in verdicts]
        alarms = [[bad(v.robust, rule) for v in verdicts] for rule in ARTIFACT_RULES]
        rows.append([name, rate(signal), *map(rate, alarms)])
    return rows


# ---- artifacts -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Artifact:
    """An artifact of known size, the rule that is to find it, and where."""

    name: str
    rule: str
    make: Maker
    sizes: tuple[int, ...] = (256, 1024)


def flat(mean: float, shape: tuple[int, int], seed: int) -> Phantom:
    return poisson(shape, mean, seed=seed)


def scene(shape: tuple[int, int], seed: int) -> Phantom:
    return seen(shape, seed)


Base = Callable[[tuple[int, int], int], Phantom]


def with_hot(base: Base, part: float, excess: float, shape: tuple[int, int], seed: int):
    count = max(round(part * shape[0] * shape[1]), 1)
    return hot_pixels(base(shape, seed), count, excess, seed=seed).pixels


def offsets(pattern: str, amplitude: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """What each line is brighter or darker by; its standard deviation is `amplitude`."""
    if pattern == "normal":
        return amplitude * rng.standard_normal(count)
    if pattern == "every second":
        return amplitude * np.where(np.arange(count) % 2, -1.0, 1.0)
    return amplitude * rng.permutation(np.where(np.arange(count) % 2, -1.0, 1.0))


def with_stripes(
    base: Base, amplitude: float, pattern: str, axis: int, shape: tuple[int, int], seed: int
):
    rng = np.random.default_rng([seed, 7])
    lines = np.expand_dims(offsets(pattern, amplitude, shape[axis], rng), 1 - axis)
    expected = base(shape, seed).truth.expected + lines
    return rng.poisson(np.maximum(expected, 0)).astype("u2")


def with_clipping(base: Base, part: float, shape: tuple[int, int], seed: int):
    return clipped(base(shape, seed), part, level=4095).pixels


def with_dead_block(base: Base, shape: tuple[int, int], seed: int):
    return dead_block(base(shape, seed), 70, 90, 64, 64).pixels


def artifacts() -> list[Artifact]:
    found = []
    for part in (1e-4, 1e-3):
        for mean, excess in ((1, 16), (10, 40), (100, 120), (1000, 400)):
            name = f"hot pixels, {part:g} of all, +{excess} on Poisson {mean}"
            make = partial(with_hot, partial(flat, mean), part, excess)
            found.append(Artifact(name, "hot_pixel_fraction", make))
        for excess in (200, 1000):
            name = f"hot pixels, {part:g} of all, +{excess} on tissue of 200"
            found.append(
                Artifact(name, "hot_pixel_fraction", partial(with_hot, scene, part, excess))
            )
    found += stripes()
    for part in (2e-4, 1e-3, 2e-2):
        name = f"clipped at 4095, {part:g} of all, tissue"
        found.append(Artifact(name, "clipped_fraction", partial(with_clipping, scene, part)))
    for mean in (3, 10, 100):
        make = partial(with_dead_block, partial(flat, mean))
        found.append(Artifact(f"dead block of 64 x 64, Poisson {mean}", "dead_area_fraction", make))
    make = partial(with_dead_block, partial(flat, 1))
    found.append(Artifact("dead block of 64 x 64, Poisson 1", "dead_area_fraction", make))
    found.append(
        Artifact(
            "dead block of 64 x 64, tissue", "dead_area_fraction", partial(with_dead_block, scene)
        )
    )
    return found


def stripes() -> list[Artifact]:
    """One sigma of Poisson 100 is 10, of Poisson 1000 it is 32 grey levels."""
    found = []
    for axis, rule in ((0, "row_striping"), (1, "column_striping")):
        lines = ("rows", "columns")[axis]
        strengths = [(m, f"{k} %", m * k / 100) for m in (100, 1000) for k in (1, 2, 5)]
        strengths += [(100, f"{k:g} sigma", 10 * k) for k in (0.5, 1, 2)]
        if axis:
            strengths = [(100, "5 %", 5.0), (100, "2 sigma", 20.0)]
        for mean, words, amplitude in strengths:
            for pattern in ("normal", "every second", "random sign"):
                make = partial(with_stripes, partial(flat, mean), amplitude, pattern, axis)
                name = f"stripes, {lines}, {pattern}, ± {words} on Poisson {mean}"
                found.append(Artifact(name, rule, make))
        make = partial(with_stripes, scene, 20, "normal", axis)
        found.append(Artifact(f"stripes, {lines}, normal, ± 10 % on tissue", rule, make))
    return found


def artifact_table() -> list[list[str]]:
    rows = [["artifact", "rule", "256²", "1024²", "alarms of other rules", "recipe's rule"]]
    for artifact in artifacts():
        hits, others, theirs = [], [], []
        for size in artifact.sizes:
            verdicts = over_sizes(artifact.make, (size,))
            hits.append(rate([bad(v.robust, artifact.rule) for v in verdicts]))
            rest = [rule for rule in ARTIFACT_RULES if rule != artifact.rule]
            others += [bad(v.robust, rule) for v in verdicts for rule in rest]
            if artifact.rule in COUNTERPART:
                theirs += [bad(v.recipe, COUNTERPART[artifact.rule]) for v in verdicts]
        rows.append([artifact.name, f"`{artifact.rule}`", *hits, rate(others), rate(theirs)])
    return rows


# ---- what is seen elsewhere than in a channel's rules --------------------------------------------


def elsewhere_table() -> list[list[str]]:
    rows = [["artifact", "how it shows", "hits"]]
    for sigma in (1, 4):
        seen = [defocus_shows(seed, sigma) for seed in range(SEEDS[256])]
        rows.append(
            [
                f"one tile of 16 blurred by {sigma:g} px, tissue",
                "its variance of Laplacian is the lowest, below half of the median",
                rate(seen),
            ]
        )
    for correlation in (0.97, 0.9):
        seen = [spill_shows(seed, correlation) for seed in range(SEEDS[256])]
        rows.append(
            [f"channel spilled, correlation {correlation:g}", "`correlation` flags it", rate(seen)]
        )
    return rows


def defocus_shows(seed: int, sigma: float) -> bool:
    whole = tissue((512, 512), mean=2000, coverage=1, seed=seed)
    pixels = defocused(whole, 128, 256, 128, 128, sigma=sigma, seed=seed).pixels
    focus = gq.focus(pixels, tile=128)["variance_of_laplacian"].compute().values[0]
    return bool(focus.argmin() == 1 * 4 + 2 and focus.min() < 0.5 * np.median(focus))


def spill_shows(seed: int, correlation: float) -> bool:
    pair = [tissue((256, 256), seed=100 * k + seed) for k in (1, 2)]
    pixels = np.stack([pair[0].pixels, spilled(*pair, correlation).pixels])
    flags = gq.assess(pixels, tissue=False, progress=False).flags
    return bool(((flags["scope"] == "pair") & (flags["status"] != "PASS")).any())


# ---- the page ------------------------------------------------------------------------------------


def markdown(rows: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((head, "|" + "---|" * len(rows[0]), *body))


def report() -> str:
    seeds = ", ".join(f"{n} of {size}²" for size, n in SEEDS.items())
    kinds = len(KINDS)
    return "\n\n".join(
        (
            "Counts are images with a WARN or FAIL of the rule, of all images. Seeds a dtype: "
            f"{seeds} (structured images and artifacts: without 64²). Poisson counts come as "
            f"{kinds} dtypes: uint16, float32, and float32 times 0.37.",
            "**Clean images.** `signal` counts images that pass as signal: none of the noise may, "
            "all of the tissue must. The other columns are false alarms.",
            markdown(clean_table()),
            "**Artifacts**, hits by size of the image.",
            markdown(artifact_table()),
            "**Seen in maps and pairs.**",
            markdown(elsewhere_table()),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="page with the two markers")
    page = parser.parse_args().write
    if page is not None:
        _page.parted(page, "flags")  # better now than after the minutes of measuring
    start = time.perf_counter()
    text = report()
    if page is None:
        print(text)
    else:
        _page.replace(page, "flags", text)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
