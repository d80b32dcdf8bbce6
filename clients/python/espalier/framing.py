"""The base protocol of LSP: `Content-Length: N`, an empty line, then N bytes of UTF-8 JSON, over any byte stream."""

from __future__ import annotations

import json
from typing import IO, Any, Dict, Optional

from .errors import ProtocolError

MAX_HEADER_BYTES = 8 << 10
MAX_BODY_BYTES = 1 << 30
# Grown as bytes arrive, not allocated on the peer's word.
READ_STEP = 1 << 20


def encode(message: Dict[str, Any]) -> bytes:
    body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def read(stream: IO[bytes]) -> Optional[Dict[str, Any]]:
    """The next message, or None at the end of the stream."""
    length = _content_length(stream)
    if length is None:
        return None
    body = bytearray()
    while len(body) < length:
        part = stream.read(min(length - len(body), READ_STEP))
        if not part:
            raise ProtocolError(f"the stream ended after {len(body)} of a message's {length} bytes")
        body += part
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("a message is not a JSON object")
    return message


def _content_length(stream: IO[bytes]) -> Optional[int]:
    length: Optional[int] = None
    header_bytes = 0
    while True:
        line = stream.readline(MAX_HEADER_BYTES)
        if not line and header_bytes == 0:
            return None
        header_bytes += len(line)
        if header_bytes >= MAX_HEADER_BYTES or not line.endswith(b"\r\n"):
            raise ProtocolError(f"expected a header of the protocol, found {line[:80]!r}")
        if line == b"\r\n":
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            digits = value.strip()
            if not digits.isdigit() or not 0 < int(digits) <= MAX_BODY_BYTES:
                raise ProtocolError(f"Content-Length {digits[:40]!r} is not a length")
            length = int(digits)
    if length is None:
        raise ProtocolError("a header without Content-Length")
    return length
