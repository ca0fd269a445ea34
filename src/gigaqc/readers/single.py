"""What readers have in common whose format holds one image, without levels and labels."""

from __future__ import annotations

from gigaqc.errors import ParameterError


class OneImage:
    """The names in a source that holds one image."""

    def __init__(self, name: str) -> None:
        self._name = name

    def images(self) -> list[str]:
        """Name the one image."""
        return [self._name]

    def labels(self) -> list[str] | None:
        """Nothing here tells labels from images."""
        return None

    def default(self) -> str | None:
        """Name the one image."""
        return self._name


def refuse_levels(level: int, what: str) -> None:
    """Raise where another level is asked of what has none."""
    if level:
        raise ParameterError(f"level: {what} no levels; got {level}, pass 0.")
