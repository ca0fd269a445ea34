"""Limits and verdicts: what a metric may be, and what to do when it is not."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gigaqc.errors import RulesError, SourceNotFoundError
from gigaqc.formulas.catalogue import judged, metric_of
from gigaqc.formulas.record import Limit, Scope, Side, Status


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
        if name not in _TISSUE:
            raise RulesError(
                f"rules: got {name!r}; pass 'robust', 'recipe', a Rules, or the path of a .toml "
                "file."
            )
        limits = (metric.limit(name) for metric in judged().values())
        return cls(name, tuple(limit for limit in limits if limit is not None), _TISSUE[name])

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
            if scope not in _JUDGED or not isinstance(metrics, dict):
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


_JUDGED = ("channel", "sample", "pair")

_TISSUE: dict[str, Literal["median", "otsu"]] = {"robust": "otsu", "recipe": "median"}
"""How each of the sets that come along finds tissue."""


def _override(
    limits: dict[tuple[Scope, str], Limit], scope: Scope, metric: str, values: Any
) -> None:
    known = judged()
    if metric not in known:
        raise RulesError(f"rules: no metric {metric!r}; there are {', '.join(known)}.")
    own = known[metric].scope
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


# ---- a judgement ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flag:
    """One judgement, as fields; `reason` puts it into words.

    `limit` is what `value` was held against, on the `side` where values are bad. `error` is one
    standard error of the value, NaN where nobody knows it; the flag is `certain` where the limit
    lies more than two of them away, and None where that cannot be told. `note` is what else a
    reader must know.
    """

    scope: str
    name: str
    metric: str
    value: float
    error: float
    limit: float
    side: str
    status: Status
    note: str = ""

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Flag:
        """The flag of a row of a table of flags."""
        return cls(
            str(row["scope"]), str(row["name"]), str(row["metric"]), float(row["value"]),
            float(row["error"]), float(row["limit"]), str(row["side"]), Status(row["status"]),
            str(row["note"]),
        )  # fmt: skip

    @property
    def certain(self) -> bool | None:
        """Whether the limit lies outside of the value and two of its errors."""
        if math.isnan(self.error) or math.isnan(self.limit):
            return None
        return abs(self.value - self.limit) > 2.0 * self.error

    @property
    def found(self) -> str:
        """What was found, in a sentence; empty where the value is within its limit."""
        if math.isnan(self.value):
            return (
                f"{self.metric} cannot be told: every pixel has the same value, or too few are "
                "valid."
            )
        if not self.status.is_bad:
            return ""
        meaning = metric_of(self.metric).meaning or f"{self.metric} is beyond its limit"
        return f"{meaning[0].upper()}{meaning[1:]}."

    @property
    def cure(self) -> str:
        """What to do; empty where the value is within its limit."""
        return metric_of(self.metric).cure if self.found else ""

    @property
    def reason(self) -> str:
        """All of it in words: what was found, against which limit, and what to do."""
        if not self.found:
            return f"{self.metric} {self.value:.4g} is within its limit."
        said = self.found
        if not math.isnan(self.value):
            side = "above" if self.side == Side.ABOVE else "not above"
            said = f"{said[:-1]} ({self.metric} {self.value:.4g}, {side} {self.limit:.4g})."
        return " ".join(filter(None, (f"{self.note}." if self.note else "", said, self.cure)))

    def row(self) -> dict[str, Any]:
        """As a row of the table of flags."""
        fields = {**self.__dict__, "status": str(self.status)}
        return {**fields, "certain": self.certain, "reason": self.reason}


FLAG_COLUMNS = (
    "scope", "name", "metric", "value", "error", "limit", "status", "certain", "side", "note",
    "reason",
)  # fmt: skip
"""Of a table of flags."""


def flag_table(flags: Iterable[Flag]) -> pd.DataFrame:
    """One row a judgement, the worst first."""
    ordered = sorted(flags, key=lambda f: -f.status.severity)
    table = pd.DataFrame([f.row() for f in ordered], columns=list(FLAG_COLUMNS))
    return table.astype({"certain": "boolean"})
