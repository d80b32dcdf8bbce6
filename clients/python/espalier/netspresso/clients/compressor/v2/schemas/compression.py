"""See `espalier.netspresso.schemas`."""

from . import *  # noqa: F403
