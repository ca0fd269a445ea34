"""Image files opened lazily: one reader a format."""

from gigaqc.readers.example import example_image
from gigaqc.readers.open import list_images, open_image, open_labels

__all__ = ["example_image", "list_images", "open_image", "open_labels"]
