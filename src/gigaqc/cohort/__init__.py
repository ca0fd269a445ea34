"""Many samples: one row each, kept so that a second run resumes, and compared with one another."""

from gigaqc.cohort.batch import assess_batch
from gigaqc.cohort.result import Cohort

__all__ = ["Cohort", "assess_batch"]
