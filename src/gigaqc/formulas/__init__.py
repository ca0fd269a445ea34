"""Pure functions of states: no pixel, no dask."""
