"""Bars: with tqdm, without it, and where nobody looks."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

import espalier
from espalier import progress as bars
from test_client import INSPECTION, answer, progress

STEPS = [
    espalier.Progress("begin", "Compressing", "certifying", 0),
    espalier.Progress("report", None, "writing", 40),
    espalier.Progress("end"),
]


@pytest.mark.parametrize("installed", [True, False])
def test_a_bar_tells_title_share_and_message_and_goes(installed, monkeypatch):
    if not installed:
        monkeypatch.setattr(bars, "tqdm_class", lambda: None)
    stream = io.StringIO()
    bar = bars.Bar(stream)
    for step in STEPS[:2] * 2 + STEPS[2:]:
        bar(step)
    drawn = stream.getvalue()
    assert "Compressing" in drawn and "40%" in drawn and "writing" in drawn and "\n" not in drawn
    assert drawn.endswith("\r") and drawn.rstrip("\r").rpartition("\r")[2].strip() == "", "the line is left empty"
    bar(STEPS[1])  # after the end: nothing
    assert stream.getvalue() == drawn


SCRIPT = """
import sys, espalier
with espalier.connect(sys.argv[2:], progress={"None": None, "False": False, "True": True}[sys.argv[1]]) as client:
    client.inspect("/m.onnx")
"""


@pytest.mark.parametrize(
    "terminal, wanted, shown",
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_a_bar_is_shown_where_somebody_looks(fake, terminal, wanted, shown):
    script = [progress("begin", title="Inspecting"), progress("report", percentage=50), progress("end")]
    command = [sys.executable, "-c", SCRIPT, str(wanted), *fake.command(inspect=[*script, answer(INSPECTION)])]
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(command, stderr=theirs, check=True, timeout=20)
    os.write(theirs, b"that was all\n")
    seen = os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)
    assert (b"Inspecting:  50%" in seen) == shown and (seen.startswith(b"that was all") != shown)
    assert ("workDoneToken" in fake.received("inspect")[0]["params"]) == shown
