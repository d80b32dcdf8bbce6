"""The Python examples of the documents, executed as they stand: a page in one go, beside the shipped networks."""

import re
import shutil

import pytest

import espalier

from test_espalierd import MODELS

REPOSITORY = MODELS.parents[3]

FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
# How many examples each page has: one that is not found is one that is not tested.
PAGES = {"docs/python.md": 7, "docs/netspresso.md": 3}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, espalierd, tmp_path, monkeypatch):
    for model in MODELS.iterdir():
        shutil.copy(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPALIER_SERVER", espalierd)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    examples = FENCE.findall((REPOSITORY / page).read_text())
    assert len(examples) == PAGES[page]
    names: dict = {"__name__": "__main__"}
    try:
        for text in examples:
            exec(compile(text, f"<{page}>", "exec"), names)
    finally:
        with espalier.connect() as client:
            client.stop_server()
