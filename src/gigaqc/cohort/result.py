"""A cohort: its tables, its status, its page."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gigaqc.base import __version__
from gigaqc.base.formatting import listed
from gigaqc.cohort.rows import compared, drift_table, outlier_table, typed
from gigaqc.errors import ParameterError, ReadError, SourceNotFoundError, StatisticsError
from gigaqc.formulas.rules import Rules
from gigaqc.report.templating import write_bytes, write_text
from gigaqc.verdict.assessment import Assessment, plain

if TYPE_CHECKING:
    from gigaqc.statistics.statistics import Statistics


FORMAT = "gigaqc-cohort-1"
OUTLIER = 3.5
"""``|z|`` from which a value is called an outlier (Iglewicz and Hoaglin 1993)."""


@dataclass(frozen=True)
class Cohort:
    """What `assess_batch` found of many samples.

    Attributes
    ----------
    out
        The folder that holds everything.
    summary
        One row a sample, in the order of the sources: ``sample status pass_qc mean_snr min_snr
        tissue_coverage n_cells n_artifacts n_flags error batch order ...`` and ``median_...`` over
        channels. A sample that could not be assessed has an ``error`` and no numbers.
    channels
        One row a channel of a sample: ``sample channel``, all metrics, ``status``.
    rules
        What the samples were judged by.

    Notes
    -----
    `assess_batch` returns it, and `Cohort.load` reads it from its folder; neither holds statistics
    or pixels. Names are kept as they came: one that begins with ``=`` is a formula to a spreadsheet
    that opens ``summary.csv``.
    """

    out: Path
    summary: pd.DataFrame
    channels: pd.DataFrame
    rules: Rules

    @classmethod
    def load(cls, out: str | os.PathLike[str]) -> Cohort:
        """The cohort that a finished `assess_batch` left in a folder.

        Raises
        ------
        SourceNotFoundError, ReadError
            When there is none, or it cannot be read.
        """
        folder = Path(out)
        if not (folder / "cohort.json").is_file():
            raise SourceNotFoundError(
                f"out: {str(folder)!r} holds no finished cohort; run assess_batch into it (again)."
            )
        try:
            about = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ReadError(f"out: {str(folder)!r} is of another version; run it again.")
            tables = [
                typed(pd.read_parquet(folder / f"{name}.parquet"))
                for name in ("summary", "channels")
            ]
            return cls(folder, tables[0], tables[1], Rules.from_dict(about["rules"]))
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, ReadError):
                raise
            raise ReadError(
                f"out: the tables in {str(folder)!r} cannot be read ({error}); run assess_batch "
                "again, no complete sample is read for that."
            ) from error

    @property
    def counts(self) -> dict[str, int]:
        """How many samples passed, were warned of, failed, and could not be assessed."""
        found = Counter(s for s in self.summary["status"] if s is not None)
        errors = int(self.summary["error"].notna().sum())
        return {**{s: found.get(s, 0) for s in ("PASS", "WARN", "FAIL")}, "error": errors}

    def outliers(self, threshold: float = OUTLIER) -> pd.DataFrame:
        """Values far from those of the other samples, the farthest first.

        Robust z = (x - median)/(1.4826 MAD) of a metric of a sample, or of a channel among the
        channels of that name; over all samples, and within the batch.

        Parameters
        ----------
        threshold
            Smallest ``|z|`` that is listed; 3.5 after Iglewicz and Hoaglin.

        Returns
        -------
        pandas.DataFrame
            ``sample channel metric value median z batch batch_median batch_z``, sorted by the
            larger of ``|z|`` and ``|batch_z|``; `channel` is None for a metric of the sample. z is
            NaN with fewer than 3 values, and where more than half of them are equal.
        """
        if not threshold > 0:
            raise ParameterError(f"threshold: got {threshold!r}; pass a number above 0.")
        return outlier_table(compared(self.summary, self.channels), threshold)

    def drift(self, *, channels: bool = False) -> pd.DataFrame:
        """How metrics run with the order of acquisition, the smallest p first.

        Parameters
        ----------
        channels
            Also for each channel; otherwise for what the summary holds of a sample.

        Returns
        -------
        pandas.DataFrame
            ``channel metric n slope slope_low slope_high rho p``: Theil-Sen slope a sample with its
            95 % interval, Spearman's rho and its two-sided p, not corrected for how many metrics
            are looked at. NaN with fewer than 3 samples.
        """
        return drift_table(compared(self.summary, self.channels), channels=channels)

    def assessment(self, sample: str, *, rules: Any = None) -> Assessment:
        """The `Assessment` of a sample, from its statistics; no pixel is read.

        Parameters
        ----------
        sample
            Its name in the summary.
        rules
            As in `assess`; those of the cohort unless said.
        """
        row = self._row(sample)
        if row["error"] is not None:
            raise StatisticsError(f"sample: {sample[:80]!r} was not assessed: {row['error']}")
        chosen = self.rules if rules is None else Rules.of(rules)
        return Assessment.load(self.out / f"{row['results']}.zarr", rules=chosen)

    def pooled(self, batch: str | None = None) -> Statistics:
        """The `Statistics` of all pixels of all samples, or of those of a batch.

        Samples that could not be assessed are left out. No pixel is read.

        Raises
        ------
        StatisticsError
            When there are none, or their channels or dtypes differ.
        """
        from gigaqc.statistics.statistics import Statistics

        rows = self.summary[self.summary["error"].isna()]
        if batch is not None:
            there = sorted({b for b in self.summary["batch"] if b is not None})
            if batch not in there:
                raise ParameterError(
                    f"batch: no sample is of batch {batch!r}; there are {listed(there) or 'none'}."
                )
            rows = rows[rows["batch"] == batch]
        if rows.empty:
            raise StatisticsError("batch: no sample was assessed, so there is nothing to pool.")
        pool: Statistics | None = None
        for row in rows.itertuples():
            one = Statistics.load(self.out / f"{row.results}.zarr")
            try:
                pool = one if pool is None else pool + one
            except StatisticsError as error:
                raise StatisticsError(
                    f"batch: {str(row.sample)[:80]!r} cannot be pooled with the samples before it "
                    f"({error}) Give samples of one panel a batch, and pool that."
                ) from error
        assert pool is not None
        return pool

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page of the cohort; its links to samples hold for a file in `out`."""
        from gigaqc.report import write_cohort_html

        write_cohort_html(self, path)

    def write(self) -> None:
        """Write all tables and the index page into `out`; each file complete or as it was."""
        for name in ("summary", "channels"):
            table: pd.DataFrame = getattr(self, name)
            write_text(self.out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            write_bytes(self.out / f"{name}.parquet", buffer.getvalue())
        self.to_html(self.out / "index.html")
        about = {"format": FORMAT, "version": __version__, "rules": self.rules.to_dict()}
        write_text(self.out / "cohort.json", json.dumps(plain(about), indent=1))

    def _row(self, sample: str) -> pd.Series:
        rows = self.summary[self.summary["sample"] == sample]
        if rows.empty:
            there = listed([str(name)[:40] for name in self.summary["sample"]])
            raise ParameterError(f"sample: none is called {sample[:80]!r}; there are {there}.")
        return rows.iloc[0]

    def __repr__(self) -> str:
        counts = self.counts
        found = ", ".join(f"{counts[s]} {s}" for s in ("FAIL", "WARN", "PASS"))
        lines = [f"Cohort of {len(self.summary)} samples in {str(self.out)!r}: {found}"]
        bad = self.summary[self.summary["error"].notna()]
        for name, error in bad[["sample", "error"]].head(5).itertuples(index=False):
            lines.append(f"  not assessed: {str(name)[:60]}: {str(error)[:120]}")
        if len(bad) > 5:
            lines.append(f"  and {len(bad) - 5} more in .summary")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        shown = [
            "sample",
            "status",
            "mean_snr",
            "min_snr",
            "tissue_coverage",
            "n_artifacts",
            "error",
        ]
        table = self.summary[shown].head(20).to_html(index=False, na_rep="", border=0)
        first = escape(repr(self).split("\n")[0])
        return f"<p>{first}. See <code>index.html</code> there.</p>{table}"
