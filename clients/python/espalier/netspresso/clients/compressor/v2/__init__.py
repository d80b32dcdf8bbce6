"""See `espalier.netspresso.schemas`."""
