"""Assessments as elements of SpatialData: a grid of tiles, and tables that annotate it."""

from gigaqc.tables.layout import add_assessments, check_room

__all__ = ["add_assessments", "check_room"]
