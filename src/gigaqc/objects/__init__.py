"""Objects of a label image: sums keyed by label, observed block by block, added, kept in files."""

from gigaqc.objects.labels import aligned, as_labels, check_fit, ring_labels
from gigaqc.objects.measures import Pairs, Stained, pairs_pass, stained_pass
from gigaqc.objects.parquet import checked_parquet, read_table, spilling, write_table
from gigaqc.objects.passes import object_read
from gigaqc.objects.state import ObjectRequest, Objects, observe
from gigaqc.objects.table import label_index, table_of

__all__ = [
    "ObjectRequest",
    "Objects",
    "Pairs",
    "Stained",
    "aligned",
    "as_labels",
    "check_fit",
    "checked_parquet",
    "label_index",
    "object_read",
    "observe",
    "pairs_pass",
    "read_table",
    "ring_labels",
    "spilling",
    "stained_pass",
    "table_of",
    "write_table",
]
