"""The JSON of an assessment, described: a schema that follows from the catalogue."""

from __future__ import annotations

from typing import Any

from gigaqc.formulas.catalogue import RULE_SETS, chosen, limits_in_words
from gigaqc.formulas.record import Metric, Scope

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
