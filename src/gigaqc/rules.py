"""Limits and verdicts: what a metric may be, and what to do when it is not."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from gigaqc.errors import RulesError, SourceNotFoundError


class Status(StrEnum):
    """A verdict; `worst` orders them."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"

    @property
    def rank(self) -> int:
        """0, 1 or 2: the worse the higher."""
        return list(Status).index(self)


def worst(statuses: list[Status]) -> Status:
    """The worst of several verdicts; PASS of none."""
    return max(statuses, key=lambda s: s.rank, default=Status.PASS)


class Scope(StrEnum):
    """What a limit judges."""

    CHANNEL = "channel"
    SAMPLE = "sample"
    PAIR = "pair"


class Side(StrEnum):
    """On which side of a limit a value is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Limit:
    """Values beyond `warn` or `fail` are flagged; None leaves that verdict out.

    ``above`` is bad when ``value > limit``; ``below`` when ``value <= limit``. A NaN has no support
    and gets `when_nan`, or no flag at all where that is None.
    """

    metric: str
    scope: Scope
    side: Side
    warn: float | None
    fail: float | None
    when_nan: Status | None = None

    def raised(self, *, at_least: float = -math.inf, by: float = 0.0, times: float = 1.0) -> Limit:
        """The same with higher limits, where a channel explains a part of the value itself."""
        warn, fail = (
            None if limit is None else max(limit * times + by, at_least)
            for limit in (self.warn, self.fail)
        )
        return replace(self, warn=warn, fail=fail)

    def judge(self, value: float) -> tuple[Status, float] | None:
        """Verdict on a value and the limit that it was held against."""
        if math.isnan(value):
            return None if self.when_nan is None else (self.when_nan, math.nan)
        held = math.nan
        for status, limit in ((Status.FAIL, self.fail), (Status.WARN, self.warn)):
            if limit is None:
                continue
            held = limit
            bad = value > held if self.side is Side.ABOVE else value <= held
            if bad:
                return status, held
        return Status.PASS, held


@dataclass(frozen=True)
class Rules:
    """A set of limits, and how tissue is found.

    ``Rules.named("robust")`` (the default of `assess`) judges by the sturdier metrics;
    ``Rules.named("recipe")`` reproduces the verdicts of the widely used IMC recipe;
    ``Rules.load("lab.toml")`` starts from one of them and sets a lab's own limits:

    .. code-block:: toml

        base = "robust"

        [channel.clipped_fraction]
        warn = 0.001
        fail = 0.05

        [channel.row_striping]
        off = true
    """

    name: str
    limits: tuple[Limit, ...]
    tissue_method: Literal["median", "otsu"] = "otsu"
    min_coverage: float = 0.3
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str) -> Rules:
        """One of the two sets that come along."""
        if name == "robust":
            return cls("robust", _ROBUST, "otsu")
        if name == "recipe":
            return cls("recipe", _RECIPE, "median")
        raise RulesError(
            f"rules: got {name!r}; pass 'robust', 'recipe', a Rules, or the path of a .toml file."
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Rules:
        """Read limits from a TOML file; what it does not name stays as in its ``base``.

        Raises
        ------
        SourceNotFoundError, RulesError
            When there is no such file, or it names a metric, key or value that has no meaning.
        """
        source = Path(path)
        if not source.is_file():
            raise SourceNotFoundError(f"rules: no file {str(source)!r}.")
        try:
            table = tomllib.loads(source.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RulesError(f"rules: {str(source)!r} is not valid TOML: {error}.") from error
        rules = cls.named(table.pop("base", "robust"))
        method = table.pop("tissue_method", rules.tissue_method)
        if method not in ("median", "otsu"):
            raise RulesError(f"rules: tissue_method {method!r}; use 'median' or 'otsu'.")
        coverage = _number(table.pop("min_coverage", rules.min_coverage), "min_coverage")
        limits = {(m.scope, m.metric): m for m in rules.limits}
        for scope, metrics in table.items():
            if scope not in set(Scope) or not isinstance(metrics, dict):
                raise RulesError(
                    f"rules: {scope!r} in {str(source)!r} is no scope; use channel, sample or pair."
                )
            for metric, values in metrics.items():
                _override(limits, Scope(scope), metric, values)
        return cls(source.stem, tuple(limits.values()), method, coverage)

    @classmethod
    def of(cls, rules: Rules | str | os.PathLike[str]) -> Rules:
        """What a caller may pass as ``rules=``."""
        if isinstance(rules, Rules):
            return rules
        if isinstance(rules, os.PathLike) or str(rules).endswith(".toml"):
            return cls.load(rules)
        return cls.named(str(rules))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file; `from_dict` brings them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Rules:
        """The rules that `to_dict` gave."""
        limits = tuple(
            Limit(
                m["metric"],
                Scope(m["scope"]),
                Side(m["side"]),
                None if m["warn"] is None else float(m["warn"]),
                None if m["fail"] is None else float(m["fail"]),
                None if m["when_nan"] is None else Status(m["when_nan"]),
            )
            for m in held["limits"]
        )
        return cls(
            held["name"], limits, held["tissue_method"], float(held["min_coverage"]),
            dict(held["options"]),
        )  # fmt: skip

    def for_scope(self, scope: Scope) -> list[Limit]:
        """Limits that judge this scope."""
        return [limit for limit in self.limits if limit.scope is scope]


OBJECT_METRICS = ("n_cells", "area_cv", "fraction_elongated", "fraction_fragmented")
"""What judges a label image; left out where there is none."""

_SCOPES = {
    "coverage": Scope.SAMPLE,
    "unreadable_fraction": Scope.SAMPLE,
    "correlation": Scope.PAIR,
    **dict.fromkeys(OBJECT_METRICS, Scope.SAMPLE),
}  # all others are of a channel


def _override(
    limits: dict[tuple[Scope, str], Limit], scope: Scope, metric: str, values: Any
) -> None:
    if metric not in EXPLANATIONS:
        raise RulesError(f"rules: no metric {metric!r}; there are {', '.join(EXPLANATIONS)}.")
    own = _SCOPES.get(metric, Scope.CHANNEL)
    if own is not scope:
        raise RulesError(
            f"rules: {metric} is a metric of the scope {own}, not {scope}; write [{own}.{metric}]."
        )
    if not isinstance(values, dict) or set(values) - {"warn", "fail", "side", "off"}:
        raise RulesError(
            f"rules: {scope}.{metric} = {values!r}; give warn, fail, side = 'above' or 'below', "
            "or off = true."
        )
    key = (scope, metric)
    if values.get("off"):
        limits.pop(key, None)
        return
    if key not in limits and "side" not in values:
        raise RulesError(f"rules: {scope}.{metric} needs side = 'above' or 'below'.")
    if values.get("side", "above") not in set(Side):
        raise RulesError(f"rules: side {values['side']!r} of {metric}; use 'above' or 'below'.")
    start = limits.get(key) or Limit(metric, scope, Side(values["side"]), None, None)
    changes: dict[str, Any] = {
        k: _number(values[k], f"{metric}.{k}") for k in ("warn", "fail") if k in values
    }
    if "side" in values:
        changes["side"] = Side(values["side"])
    limits[key] = replace(start, **changes)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RulesError(f"rules: {what} = {value!r}; give a number.")
    return float(value)


def _channel(
    metric: str, side: Side, warn: float | None, fail: float | None, nan: Status | None = None
) -> Limit:
    return Limit(metric, Scope.CHANNEL, side, warn, fail, nan)


# What makes the recipe's quality of a segmentation REVIEW: something to look at, no failure.
_OBJECTS = (
    Limit("area_cv", Scope.SAMPLE, Side.ABOVE, 0.5, None),
    Limit("fraction_elongated", Scope.SAMPLE, Side.ABOVE, 0.1, None),
)
_UNREADABLE = Limit("unreadable_fraction", Scope.SAMPLE, Side.ABOVE, 0.0, 0.05)
_FRAGMENTED = Limit("fraction_fragmented", Scope.SAMPLE, Side.ABOVE, 0.01, 0.1)

_ROBUST = (
    _channel("n_valid", Side.BELOW, None, 0),
    _channel("autocorrelation_snr", Side.BELOW, 0.2, 0.05, Status.FAIL),
    _channel("clipped_fraction", Side.ABOVE, 1e-4, 1e-2),
    _channel("hot_pixel_fraction", Side.ABOVE, 2e-5, 1e-2),
    _channel("dead_area_fraction", Side.ABOVE, 1e-3, 5e-2),
    _channel("row_striping", Side.ABOVE, 2.5, 10.0),
    _channel("column_striping", Side.ABOVE, 2.5, 10.0),
    _channel("range_utilized", Side.BELOW, 0.01, None),
    Limit("coverage", Scope.SAMPLE, Side.BELOW, 0.002, 0.0, Status.FAIL),
    Limit("n_cells", Scope.SAMPLE, Side.BELOW, None, 0.0),
    *_OBJECTS,
    _FRAGMENTED,
    _UNREADABLE,
    Limit("correlation", Scope.PAIR, Side.ABOVE, 0.95, None),
)

_RECIPE = (
    _channel("snr", Side.BELOW, 3.0, 1.5, Status.FAIL),
    _channel("recipe_saturation", Side.ABOVE, None, 0.01),
    _channel("recipe_hot_pixels", Side.ABOVE, None, 0.001),
    _channel("recipe_dead_regions", Side.ABOVE, None, 0.05),
    _channel("recipe_striping", Side.ABOVE, None, 0.3),
    Limit("coverage", Scope.SAMPLE, Side.BELOW, None, 0.3, Status.FAIL),
    Limit("n_cells", Scope.SAMPLE, Side.BELOW, 0.0, None),
    *_OBJECTS,
    _UNREADABLE,
)


@dataclass(frozen=True)
class Explanation:
    """A metric in words: what is wrong when it is beyond its limit, and what to do."""

    meaning: str
    cure: str


EXPLANATIONS: dict[str, Explanation] = {
    "n_valid": Explanation(
        "the channel has no valid pixel",
        "Check that the file is complete and that the mask covers part of it.",
    ),
    "autocorrelation_snr": Explanation(
        "neighbouring pixels hardly resemble each other: this looks like noise, not structure",
        "Leave the channel out of the analysis, or stain, expose or denoise again.",
    ),
    "snr": Explanation(
        "bright pixels stand out too little from the spread of the dark ones",
        "Leave the channel out of the analysis, or stain or expose again.",
    ),
    "clipped_fraction": Explanation(
        "pixels sit at the largest value that the detector can give",
        "Do not compare intensities there; expose shorter or lower the gain next time.",
    ),
    "recipe_saturation": Explanation(
        "too many pixels lie within 1 % of the maximum",
        "Do not compare intensities there; expose shorter next time.",
    ),
    "hot_pixel_fraction": Explanation(
        "single pixels are far brighter than their neighbours",
        "Remove them (a hot-pixel filter) before measuring intensities.",
    ),
    "recipe_hot_pixels": Explanation(
        "too many pixels exceed twice the 99.9th percentile",
        "Remove hot pixels before measuring intensities.",
    ),
    "dead_area_fraction": Explanation(
        "whole patches are exactly zero",
        "Look for missing tiles or a failed acquisition, and mask the patches out.",
    ),
    "recipe_dead_regions": Explanation(
        "too many pixels are exactly zero",
        "Look for missing tiles; counting data is expected to be sparse.",
    ),
    "row_striping": Explanation(
        "rows differ from the rows next to them by more than their pixels explain",
        "Look for scan lines; destripe, or acquire again.",
    ),
    "column_striping": Explanation(
        "columns differ from the columns next to them by more than their pixels explain",
        "Look for scan lines or camera columns; destripe, or acquire again.",
    ),
    "recipe_striping": Explanation(
        "the means of the rows vary too much",
        "Look for stripes; tissue that covers part of the image causes this too.",
    ),
    "range_utilized": Explanation(
        "nearly all pixels use a small part of the range up to the maximum: the channel is sparse, "
        "or a few pixels are very bright",
        "Look for those pixels; expose or count longer next time.",
    ),
    "coverage": Explanation(
        "too little of the image is tissue",
        "Check the tissue channel, and whether the right region was imaged.",
    ),
    "n_cells": Explanation(
        "the label image holds no object",
        "Check that the labels belong to this image, and segment again.",
    ),
    "area_cv": Explanation(
        "the areas of the objects vary much",
        "Look for merged and broken objects, and whether the cells themselves differ in size.",
    ),
    "fraction_elongated": Explanation(
        "many objects are long and thin",
        "Look for merged objects and for slivers; some cells are elongated by nature.",
    ),
    "fraction_fragmented": Explanation(
        "many ids lie in several pieces",
        "Number the pieces apart, or stitch the segmentation again.",
    ),
    "unreadable_fraction": Explanation(
        "pixels could not be read and were left out",
        "Copy or export the image again; what is left was judged as if these pixels were NaN.",
    ),
    "correlation": Explanation(
        "two channels show nearly the same image",
        "Check for spillover or bleed-through, or name the pair as expected.",
    ),
}


def sentence(limit: Limit, status: Status, value: float, held: float) -> str:
    """A verdict in words: what was found, against which limit, and what to do."""
    about = EXPLANATIONS[limit.metric]
    if math.isnan(value):
        return (
            f"{limit.metric} cannot be told: every pixel has the same value, or too few are valid. "
            f"{about.cure}"
        )
    if status is Status.PASS:
        return f"{limit.metric} {value:.4g} is within its limit."
    side = "above" if limit.side is Side.ABOVE else "not above"
    return (
        f"{about.meaning[0].upper()}{about.meaning[1:]} ({limit.metric} {value:.4g}, {side} "
        f"{held:.4g}). {about.cure}"
    )
