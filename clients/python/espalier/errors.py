"""Everything that can go wrong, as exceptions under one root.

`ServerError` is an answer of the server; the others mean that there is none.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Type

# Codes of JSON-RPC 2.0 and LSP 3.17 that the server uses.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_NOT_INITIALIZED = -32002
REQUEST_FAILED = -32803
SERVER_CANCELLED = -32802
CONTENT_MODIFIED = -32801
REQUEST_CANCELLED = -32800


class EspalierError(Exception):
    """The root of this package's exceptions."""


class ServerError(EspalierError):
    """The server answered a request with an error.

    `kind` is stable and meant for programs ("model.notFound", "output.exists", ...), `code` is JSON-RPC's or LSP's,
    `message` is meant for people, `data` holds the details.
    """

    def __init__(self, code: int, message: str, data: Optional[Mapping[str, Any]] = None):
        self.code = code
        self.message = message
        self.data: Mapping[str, Any] = data if data is not None else {}
        self.kind: Optional[str] = self.data.get("kind")
        super().__init__(f"{self.kind or f'error {code}'}: {message}")

    @classmethod
    def from_json(cls, error: Mapping[str, Any]) -> ServerError:
        code, message, data = error["code"], error["message"], error.get("data")
        kinds: Dict[int, Type[ServerError]] = {
            INVALID_PARAMS: InvalidParams, REQUEST_CANCELLED: Cancelled, SERVER_CANCELLED: Cancelled
        }  # fmt: skip
        return kinds.get(code, cls)(code, message, data if isinstance(data, dict) else None)


class InvalidParams(ServerError):
    """The request is wrong as written; sent again unchanged it fails again. `path`: a JSON pointer to what is wrong."""

    def __init__(self, code: int, message: str, data: Optional[Mapping[str, Any]] = None):
        super().__init__(code, message, data)
        self.path: Optional[str] = self.data.get("path")

    def __str__(self) -> str:
        return f"invalid request: {self.message}" + (f" (at {self.path})" if self.path else "")


class Cancelled(ServerError):
    """The call was cancelled, by its caller or because the server stops."""


class CallTimeout(EspalierError, TimeoutError):
    """The server did not answer within the caller's time; the call has been cancelled."""


class ProtocolError(EspalierError):
    """What arrived is not the protocol that this client speaks."""


class ServerNotFound(EspalierError):
    """There is no server to start or to connect to."""


class ServerStopped(EspalierError):
    """The connection has ended: the server exited, or was never able to start.

    `reason` is the message without what follows, `exit_status` the process's (negative: the signal that ended it; None
    for a socket), `stderr` the last lines that it wrote there.
    """

    def __init__(self, message: str, exit_status: Optional[int] = None, stderr: Sequence[str] = ()):
        self.reason = message
        self.exit_status = exit_status
        self.stderr = list(stderr)
        super().__init__("\n".join([message, *(f"  stderr: {line}" for line in self.stderr)]))
