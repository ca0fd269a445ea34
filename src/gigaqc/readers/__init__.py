"""Image files opened lazily: one reader a format."""

from gigaqc.readers.open import example_image, list_images, open_image, open_labels

__all__ = ["example_image", "list_images", "open_image", "open_labels"]
