"""The Python examples of the documents, executed as they stand: a page in one go, beside the shipped networks."""

import re
import shlex
import shutil

import pytest

import espalier
from espalier import commands
from test_espalierd import MODELS, RESNET

REPOSITORY = MODELS.parents[3]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
FRAMEWORK = re.compile(r"^import (torch|keras)$", re.M)
# How many examples each page has that need no framework (Tests/Torch and Tests/Keras run those): one that is not found
# is one that is not tested.
PAGES = {"README.md": 2, "docs/python.md": 7, "docs/netspresso.md": 3}
COMMAND = re.compile(r"^ {4}(espalier .*?)(?: {2,}#.*)?$|`(espalier [a-z]+ [^`]*)`", re.M)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, espalierd, tmp_path, monkeypatch):
    for model in MODELS.iterdir():
        shutil.copy(model, tmp_path)
    shutil.copy(RESNET, tmp_path / "model.onnx")
    shutil.copy(MODELS / "digits_calibration.npy", tmp_path / "images.npy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPALIER_SERVER", espalierd)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    examples = [text for text in FENCE.findall((REPOSITORY / page).read_text()) if not FRAMEWORK.search(text)]
    assert len(examples) == PAGES[page]
    names: dict = {"__name__": "__main__"}
    try:
        for text in examples:
            exec(compile(text, f"<{page}>", "exec"), names)
    finally:
        with espalier.connect() as client:
            client.stop_server()


@pytest.mark.parametrize("page, least", [("README.md", 6), ("docs/python.md", 5)])
def test_the_shells_commands_can_be_said(page, least):
    found = [block or inline for block, inline in COMMAND.findall((REPOSITORY / page).read_text())]
    assert len(found) >= least
    for command in found:
        commands.parser().parse_args(shlex.split(command)[1:])
