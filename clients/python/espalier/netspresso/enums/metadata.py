"""See `espalier.netspresso.words`."""

from ..words import Status, TaskType

__all__ = ["Status", "TaskType"]
