"""All metrics that are known, and the schema of what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from gigaqc.errors import ParameterError
from gigaqc.formulas import defects, focus, noise, range, segmentation, signal, tissue
from gigaqc.formulas.record import Bounds, Metric, Scope
from gigaqc.statistics.statistics import Part

_OURS = (
    *focus.COUNTS, *signal.METRICS, *range.METRICS, *defects.METRICS, *focus.METRICS,
    *focus.MOMENTS, *range.STAINED,
    *focus.MOMENT_TILES, *signal.TILES, *defects.TILES, *focus.TILES,
    *tissue.METRICS, *segmentation.METRICS, *segmentation.WITH_TISSUE, *segmentation.WITH_IMAGE,
    *segmentation.WITH_RING, *segmentation.TILES, *tissue.SAMPLE, *tissue.PAIRS, *noise.METRICS,
)  # fmt: skip

RULE_SETS = ("robust", "recipe")
"""Names of the sets of limits that come along."""

_added: list[Metric] = []


def metrics_known() -> tuple[Metric, ...]:
    """All metrics, those that were added last."""
    return (*_OURS, *_added)


def chosen(
    *, scope: Scope | None = None, function: str | None = None, assessed: bool | None = None
) -> list[Metric]:
    """The metrics of a scope, of a public function, and those that tables of `assess` have."""
    return [
        m
        for m in metrics_known()
        if (scope is None or m.scope is scope)
        and (function is None or m.function == function)
        and (assessed is None or m.assessed is assessed)
    ]


def parts_of(metrics: Iterable[Metric]) -> Part:
    """What a scan must observe for these metrics."""
    needed = Part(0)
    for metric in metrics:
        needed |= metric.needs
    return needed


@lru_cache(maxsize=1)
def judged() -> Mapping[str, Metric]:
    """What rules may name: the metrics of channels, samples and pairs that `assess` has, by key."""
    scopes = (Scope.CHANNEL, Scope.SAMPLE, Scope.PAIR)
    return {m.key: m for m in metrics_known() if m.assessed and m.scope in scopes}


def metric_of(key: object, scope: Scope | None = None) -> Metric:
    """The record of a column; one that nobody described is made from its name.

    Parameters
    ----------
    key
        The column's name.
    scope
        Of what; a number of a channel, sample or pair unless said.
    """
    name = str(key)
    if scope is None and name in (known := judged()):
        return known[name]
    for metric in metrics_known():
        if metric.key == name and scope in (None, metric.scope):
            return metric
    return Metric(name, name.replace("_", " ").strip().capitalize() or name, "")


# ---- metrics of one's own ------------------------------------------------------------------------


def add_metric(metric: Metric) -> None:
    """Add a metric of your own to the catalogue of this process.

    Its column is in the tables of every later `gq.assess`, its limits in the rule sets that it
    names, its label on the pages, its median in the summaries of cohorts if it is ``compared``.

    Parameters
    ----------
    metric
        ``compute`` gets a `Channel` (scope ``channel``), `Tiles` (``tile``) or a `Sample`
        (``sample``) of `gigaqc.formulas.views`, and returns a number of states that a scan
        observes anyway; of tiles an array (C, t, z, tile_y, tile_x). What ``needs`` a part that
        was not scanned is NaN. Pages show a metric of tiles or of the sample where it is
        ``primary``.

    Raises
    ------
    ParameterError
        Something that is no `Metric`, a key that is taken or is no name, or no ``compute``.

    Notes
    -----
    Of this process: workers of a cluster that judge whole samples get it with their task, so its
    functions must be picklable.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> from gigaqc.formulas.record import above
    >>> def own_variation(channel):
    ...     values = channel.values
    ...     return values.std / values.mean if values.n else float("nan")
    >>> metric = gq.Metric(
    ...     "own_variation", "Variation", "Std over mean.", compute=own_variation,
    ...     limits={"robust": above(0.4, None)}, meaning="values vary", cure="Look at the lamp.",
    ... )
    >>> gq.add_metric(metric)
    >>> image = np.array([[[1, 3], [1, 3]]], dtype="u2")
    >>> verdict = gq.assess(image, progress=False, tissue=False)
    >>> float(verdict.channels["own_variation"].iloc[0])
    0.5
    >>> verdict.flags.query("metric == 'own_variation'")["status"].tolist()
    ['WARN']
    >>> gq.remove_metric("own_variation")
    """
    if not isinstance(metric, Metric):
        raise ParameterError(f"metric: got {type(metric).__name__}; pass a gq.Metric.")
    for wrong in _faults(metric):
        raise ParameterError(f"metric: {wrong}.")
    take_over((*_added, metric))


def _faults(metric: Any) -> Iterator[str]:
    """What makes a metric none that can be added, and the cure."""
    key, scope = metric.key, metric.scope
    if not isinstance(key, str) or not key.isidentifier():
        yield f"key {key!r} is no name; use letters and _"
    tables = (Scope.CHANNEL, Scope.SAMPLE, Scope.PAIR)
    taken = {m.key for m in metrics_known() if m.assessed and m.scope is scope}
    taken |= {m.key for m in metrics_known() if m.assessed and {scope, m.scope} <= set(tables)}
    if key in taken or key in _RESERVED:
        yield f"there is a {scope} metric or column {key!r} already; choose another key"
    columns = {m.column or m.key for m in metrics_known() if m.scope is Scope.SAMPLE}
    if metric.column in columns | _RESERVED or metric.column.startswith("median_"):
        yield f"column {metric.column!r} is another one's; choose another"
    if not callable(metric.compute) or scope not in (Scope.CHANNEL, Scope.SAMPLE, Scope.TILE):
        yield f"{key!r} needs compute=, a function, and the scope channel, sample or tile"
    if metric.kind not in ("number", "fraction", "count", "flag"):
        yield f"kind {metric.kind!r} of {key!r}; pass number, fraction, count or flag"
    if not isinstance(metric.needs, Part):
        yield f"needs {metric.needs!r} of {key!r}; pass a gigaqc.statistics.statistics.Part"
    if metric.floor is not None and scope is not Scope.CHANNEL:
        yield f"floor of {key!r} is for metrics of a channel; leave it out"
    sets = metric.limits if isinstance(metric.limits, Mapping) else {"": None}
    if not all(k in RULE_SETS and isinstance(v, Bounds) for k, v in sets.items()):
        yield (
            f"limits of {key!r} are {metric.limits!r}; pass a dict such as "
            "{'robust': gigaqc.formulas.record.above(0.1, 0.5)}"
        )


_RESERVED = {
    "status", "n_flags", "n_artifacts", "tissue_channel", "sample", "channel", "source", "element",
    "results", "page", "order", "batch", "error", "pass_qc", "name", "c", "t", "z", "y", "x",
    "tile_y", "tile_x",
}  # fmt: skip
"""Names that columns of tables have beside the metrics."""


def remove_metric(key: str) -> None:
    """Take the metrics of a key that were added out again, whatever their scope.

    Raises
    ------
    ParameterError
        None of this key was added.
    """
    found = [m for m in _added if m.key == key]
    if not found:
        own = ", ".join(m.key for m in _added) or "none"
        raise ParameterError(f"key: no metric {key!r} was added; there are {own}.")
    take_over(m for m in _added if m.key != key)


def added() -> tuple[Metric, ...]:
    """The metrics that were added in this process."""
    return tuple(_added)


def take_over(metrics: Iterable[Metric]) -> None:
    """Know these metrics beside our own, and no others: what another process had added."""
    _added[:] = list(metrics)
    judged.cache_clear()


# ---- as tables -----------------------------------------------------------------------------------


def metrics() -> pd.DataFrame:
    """Every number that gigaqc tells, one row a metric.

    Returns
    -------
    DataFrame
        ``key`` (column or variable), ``label``, ``scope`` (``channel``, ``tile``, ``sample``,
        ``pair`` or ``pixel``), ``function`` that gives it (empty where only `assess` does),
        ``formula``, ``unit``, ``range``, ``better`` (which way is good), ``nan`` (when
        there is no value), ``exact`` (to which
        error), ``reads`` of a chunk (of other types than integers to 16 bits in brackets),
        ``needs`` (parts of a scan), ``source`` (where the formula comes from), and the limits of
        each rule set: ``robust``, ``recipe``, such as ``"> 0.0001, > 0.01"`` for WARN and FAIL;
        empty where it is not judged. `what` explains it, `meaning` and `cure` tell what to do
        beyond its limit.

    Examples
    --------
    >>> import gigaqc as gq
    >>> table = gq.metrics().query("scope == 'channel'").set_index("key")
    >>> table.loc["clipped_fraction", ["better", "robust"]].tolist()
    ['lower', '> 0.0001, > 0.01']
    """
    return pd.DataFrame([_row(metric) for metric in metrics_known()])


def _row(metric: Metric) -> dict[str, Any]:
    return {
        "key": metric.key,
        "label": metric.label,
        "scope": str(metric.scope),
        "function": metric.function,
        "formula": metric.formula,
        "unit": metric.unit,
        "range": metric.range,
        "better": metric.better,
        "nan": metric.nan,
        "exact": metric.exact,
        "reads": metric.reads,
        "needs": ", ".join(str(p.name).lower() for p in metric.needs),
        "source": metric.origin,
        **{name: limits_in_words(metric, name) for name in RULE_SETS},
        "what": metric.what,
        "meaning": metric.meaning,
        "cure": metric.cure,
    }


def limits_in_words(metric: Metric, rules: str) -> str:
    """The limits of a metric in a rule set: WARN, then FAIL."""
    bounds = metric.limits.get(rules)
    if bounds is None:
        return ""
    sign = {"above": ">", "below": "<="}[bounds.side]
    named = [(bounds.warn, "WARN"), (bounds.fail, "FAIL")]
    given = [(f"{sign} {limit:g}", word) for limit, word in named if limit is not None]
    if len(given) == 2:
        return ", ".join(text for text, _ in given)
    return " ".join(f"{text} {word}" for text, word in given)


SCHEMA = {"name": "gigaqc-assessment", "version": 1}
"""What the JSON says that it is. The version grows when a field changes its meaning or goes."""

_NUMBER = {"type": ["number", "string", "null"]}  # NaN is null, infinities are text
_TYPES: dict[str, dict[str, Any]] = {
    "count": {"type": ["integer", "number", "string", "null"]},
    "flag": {"type": ["boolean", "null"]},
    "text": {"type": ["string", "null"]},
}
_STATUS = {"enum": ["PASS", "WARN", "FAIL"]}
_TEXT = {"type": "string"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `Assessment.to_json` writes.

    Metrics that are added to the catalogue are in it. Further fields are allowed: a reader takes
    those that it knows.
    """
    channel = {m.key: _described(m) for m in chosen(scope=Scope.CHANNEL, assessed=True)}
    summary = {m.key: _described(m) for m in chosen(scope=Scope.SAMPLE, assessed=True)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{SCHEMA['name']} {SCHEMA['version']}",
        "type": "object",
        "required": [
            "schema", "name", "status", "passed", "summary", "channels", "flags", "correlation",
            "provenance",
        ],
        "properties": {
            "schema": {"const": SCHEMA},
            "name": _TEXT,
            "status": _STATUS,
            "passed": {"type": "boolean"},
            "summary": {"type": "object", "properties": {**summary, "status": _STATUS}},
            "channels": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": [*channel, "status"],
                    "properties": {**channel, "status": _STATUS},
                },
            },
            "flags": {"type": "array", "items": _flag()},
            "correlation": {"type": "array", "items": {"type": "array", "items": _NUMBER}},
            "provenance": {"type": "object"},
        },
    }  # fmt: skip


def _described(metric: Metric) -> dict[str, Any]:
    limits = {name: limits_in_words(metric, name) for name in RULE_SETS if name in metric.limits}
    about = {"title": metric.label, "description": metric.what, "unit": metric.unit}
    said = {k: v for k, v in {**about, "limits": limits}.items() if v}
    return {**_TYPES.get(metric.kind, _NUMBER), **said}


def _flag() -> dict[str, Any]:
    texts = dict.fromkeys(("name", "metric", "note", "reason"), _TEXT)
    numbers = dict.fromkeys(("value", "error", "limit"), _NUMBER)
    fields = {
        "scope": {"enum": ["channel", "sample", "pair"]},
        **texts,
        **numbers,
        "side": {"enum": ["above", "below"]},
        "status": _STATUS,
        "certain": {"type": ["boolean", "null"]},
    }
    return {"type": "object", "required": [*fields], "properties": fields}
