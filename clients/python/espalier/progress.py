"""Progress as people see it: a bar of tqdm in terminals and notebooks, a line of text where tqdm is not installed.

Drawn on the thread that reads from the server, to standard error. A server reports nothing of what ends within a fifth
of a second, so that quick calls show nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any, Optional, TextIO

from .connection import Progress

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    running = getattr(shell, "get_ipython", lambda: None)()
    return hasattr(running, "kernel")


def is_watched() -> bool:
    """Whether there is anybody to see a bar."""
    return is_notebook() or sys.stderr.isatty()


def tqdm_class() -> Any:
    """The class of bars that suits this process, None where tqdm is not installed."""
    if importlib.util.find_spec("tqdm") is None:
        return None
    if is_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        return importlib.import_module("tqdm.notebook").tqdm
    return importlib.import_module("tqdm").tqdm


class Bar:
    """A callback for `progress` that draws. A repeated "begin", after a server was lost, starts the bar again."""

    def __init__(self, stream: Optional[TextIO] = None):
        self._stream = stream
        self._title = ""
        self._bar: Any = None

    def __call__(self, step: Progress) -> None:
        if step.kind == "begin":
            self._close()
            self._title = step.title or "Working"
            make = tqdm_class()
            stream = self._stream or sys.stderr
            if make is None:
                self._bar = _Line(stream, self._title)
            else:
                self._bar = make(total=100, desc=self._title, bar_format=_FORMAT, leave=False, file=stream)
        if self._bar is None:
            return
        if step.kind == "end":
            self._close()
            return
        if step.message:
            self._bar.set_postfix_str(step.message, refresh=False)
        if step.percentage is not None:
            self._bar.n = step.percentage
        self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Line:
    """What of tqdm's bars is used here, as one line of text that is written over itself."""

    def __init__(self, stream: TextIO, title: str):
        self.n = 0
        self._stream = stream
        self._title = title
        self._message = ""
        self._width = 0

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self._message = text

    def refresh(self) -> None:
        self._write(f"{self._title}: {self.n}% {self._message}".rstrip())

    def close(self) -> None:
        self._write("")
        self._stream.write("\r")
        self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
        self._stream.flush()
