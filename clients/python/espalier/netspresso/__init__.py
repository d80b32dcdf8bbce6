"""The interface of NetsPresso's Python client, carried out here by espalierd: no account, no upload, no credits.

    from espalier.netspresso import NetsPresso
    from espalier.netspresso.enums import CompressionMethod, RecommendationMethod

A script written for `netspresso` changes its imports to `espalier.netspresso` and runs on. What takes part is what
compresses; docs/netspresso.md says what is the same and what differs.
"""

from __future__ import annotations

import logging
from typing import Any, Optional

from ..client import Client
from .compressor import Compressor, CompressorV2

__all__ = ["Compressor", "CompressorV2", "NetsPresso"]

log = logging.getLogger("espalier.netspresso")
# What NetsPresso has besides a compressor.
SERVICES = frozenset(
    ("trainer", "converter", "converter_v2", "benchmarker", "benchmarker_v2", "quantizer", "profiler", "np_inferencer",
     "custom_inferencer", "create_project", "get_user")
)  # fmt: skip


class NetsPresso:
    """The entrance. Credentials are accepted and ignored: nothing leaves this machine.

    `client` is the `espalier.Client` to work with; without one the user's shared daemon does the work if it runs, else
    one that is started with the first request.
    """

    def __init__(
        self,
        email: Optional[str] = None,
        password: Optional[str] = None,
        verify_ssl: bool = True,
        *,
        api_key: Optional[str] = None,
        client: Optional[Client] = None,
    ):
        self._client = client

    def compressor_v2(self) -> CompressorV2:
        """The compressor of NetsPresso 1.7 and newer, whose methods give `CompressorMetadata`."""
        return CompressorV2(self._connected())

    def compressor(self) -> Compressor:
        """The compressor of NetsPresso 1.1 to 1.13, whose methods give dictionaries and raise exceptions."""
        return Compressor(self._connected())

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(daemon="running")
        return self._client

    def __getattr__(self, name: str) -> Any:
        if name in SERVICES:
            raise AttributeError(
                f"{name} is NetsPresso's own: espalier.netspresso compresses models (compressor, compressor_v2). "
                "Where the rest of a script needs it, import it from netspresso beside this"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
