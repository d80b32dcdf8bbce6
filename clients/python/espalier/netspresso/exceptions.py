"""Why a step of the compressor was refused before the daemon was asked. All are NetsPresso's names.

What the daemon refuses is `espalier.ServerError`, whose `kind` is stable.
"""

from __future__ import annotations

from typing import Any, Dict


class PyNPException(Exception):
    """The root; its argument is a dictionary with `name` and `message`, as there."""

    def __init__(self, message: str):
        detail: Dict[str, Any] = {
            "data": {"origin": "pynp", "error_log": "", "link": None},
            "error_code": "",
            "name": type(self).__name__,
            "message": message,
        }
        super().__init__(detail)
        self.message = message

    def __str__(self) -> str:
        return self.message


class NotValidChannelAxisRangeException(PyNPException):
    def __init__(self, reshape_channel_axis: int):
        super().__init__(f"reshape_channel_axis is one of 0, 1, -1 and -2; found {reshape_channel_axis}")


class EmptyCompressionParamsException(PyNPException):
    def __init__(self) -> None:
        super().__init__("no available layer has values: fill in available_layer.values of those to compress")


class NotValidSlampRatioException(PyNPException):
    def __init__(self, ratio: float):
        super().__init__(f"the ratio of SLAMP is between 0 and 1; found {ratio}")


class NotValidVbmfRatioException(PyNPException):
    def __init__(self, ratio: float):
        super().__init__(f"the ratio of VBMF is from -1 to 1; found {ratio}")


class NotFillInputLayersException(PyNPException):
    def __init__(self) -> None:
        super().__init__(
            "a PyTorch GraphModule does not say what shapes its inputs have: give input_shapes, such as "
            '[{"batch": 1, "channel": 3, "dimension": [224, 224]}]'
        )


class NotValidInputModelPath(PyNPException):
    def __init__(self, path: object):
        super().__init__(f"input_model_path must be a file, and {path} is none")


class UnknownModelException(PyNPException):
    """Ids are those of this process: nothing is stored anywhere but in files."""

    def __init__(self, what: str, identifier: str):
        super().__init__(
            f"this compressor knows no {what} {identifier!r}: ids live as long as the object that gave them"
        )
