"""Reading and writing image files, always lazily: one reader a format, one writer."""

from gigaqc.io.example import example_image
from gigaqc.io.source import list_images, open_image, open_labels

__all__ = [
    "example_image",
    "list_images",
    "open_image",
    "open_labels",
]
