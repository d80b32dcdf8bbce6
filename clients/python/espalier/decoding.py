"""What the wire holds, as the plain records of results.py: every member of its type, and those that have to be there.

A member that a record does not know is no error: newer servers add some.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Set, Tuple, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ProtocolError

Record = TypeVar("Record")


def local_path(text: str) -> Path:
    """A path as the wire spells it: as it was given, or as a file URI."""
    if text.startswith("file:"):
        return Path(os.fsdecode(urllib.parse.unquote_to_bytes(urllib.parse.urlsplit(text).path)))
    return Path(text)


def decode(record: Type[Record], value: Any) -> Record:
    """`value` as an instance of the dataclass `record`; ProtocolError where it is none."""
    decoded: Record = _decode(record, value, record.__name__)
    return decoded


@functools.lru_cache(maxsize=None)
def _members(record: Any) -> Dict[str, Tuple[Any, bool]]:
    """Type and obligation of each member of a record."""
    hints = get_type_hints(record)
    return {
        f.name: (hints[f.name], f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(record)
    }


# What an element of each plain type may be; an index among floats stays an integer.
_PLAIN: Dict[type, Set[type]] = {int: {int}, float: {int, float}, str: {str}}


def _decode(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ProtocolError(f"{where}: expected an object, found {_name(value)}")
        members: Dict[str, Any] = {}
        for name, (hint, required) in _members(kind).items():
            if name == "raw":
                members[name] = value
            elif value.get(name) is not None:
                members[name] = _decode(hint, value[name], f"{where}.{name}")
            elif required:
                raise ProtocolError(f"{where}.{name} is missing")
        return kind(**members)
    if kind is Any:
        return value
    if kind is Path and isinstance(value, str):
        return local_path(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union:
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        if len(options) == 1:
            return _decode(options[0], value, where)
        if isinstance(value, tuple(options)):
            return value
    elif origin is list:
        if isinstance(value, list):
            # Lists of channel indices are long; types alone decide for them.
            plain = _PLAIN.get(arguments[0])
            if plain is not None and set(map(type, value)) <= plain:
                return value
            return [_decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif kind is float and type(value) in (int, float):
        return value
    elif type(value) is kind:
        return value
    raise ProtocolError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {_name(value)}")


def _name(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.60}"
