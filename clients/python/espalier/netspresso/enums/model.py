"""See `espalier.netspresso.words`."""

from ..words import DataType, Extension, Framework, OriginFrom

__all__ = ["DataType", "Extension", "Framework", "OriginFrom"]
