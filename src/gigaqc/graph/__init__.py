"""Graphs: `Reduce`, `Map` and `Fold` on a `Source`; the only folder that knows dask from inside."""
