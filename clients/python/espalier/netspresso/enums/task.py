"""See `espalier.netspresso.words`."""

from ..words import Task

__all__ = ["Task"]
