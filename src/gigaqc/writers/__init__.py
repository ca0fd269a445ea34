"""Images written to files, chunk by chunk, complete or absent: one writer a format."""

from gigaqc.writers.write import write_image, write_labels

__all__ = ["write_image", "write_labels"]
