"""Reading and writing image files, always lazily: one reader a format, one writer."""

from gigaqc.io.source import list_images, open_image, open_labels
from gigaqc.io.write import write_image, write_labels

__all__ = ["list_images", "open_image", "open_labels", "write_image", "write_labels"]
