"""Reads of an image, of its tissue, its pixels and its objects: what each observes."""
