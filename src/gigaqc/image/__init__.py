"""The labelled image: its axes, masks and polygons, where it lies, what a verb is handed."""
