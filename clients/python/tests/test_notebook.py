"""The example notebook, run from top to bottom in a real kernel, on the shipped networks."""

import shutil

import nbclient
import nbformat
import pytest

import espalier
from test_espalierd import MODELS

NOTEBOOK = MODELS.parent / "notebook.ipynb"


@pytest.fixture(scope="module")
def executed(espalierd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(MODELS, folder / "models")
    patch = pytest.MonkeyPatch()
    patch.setenv("ESPALIER_SERVER", espalierd)
    patch.setenv("XDG_RUNTIME_DIR", str(folder))
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the file is kept without outputs"
    try:
        resources = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
        yield notebook
    finally:
        with espalier.connect() as client:
            client.stop_server()
        patch.undo()


def results(notebook):
    """The HTML and the text of every code cell, by how its source begins."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [output["data"] for output in cell.outputs if "data" in output]
            found[cell.source] = ("".join(each.get("text/html", "") for each in data), cell.outputs)
    return found


def test_every_kind_of_result_is_shown(executed):
    shown = [html for html, _ in results(executed).values() if "class=espalier" in html]
    heads = ["digits_resnet.onnx", "Recommendation", "Compressed", "Sweep", "Sensitivity", "Compressed"]
    assert len(shown) == len(heads) and all(f"<p class=head>{head}" in html for head, html in zip(heads, shown))
    assert "✓ verified" in shown[2] and "18 points" in shown[3]


def test_nothing_complains_and_bars_are_gone(executed):
    for source, (_, outputs) in results(executed).items():
        assert all(output.output_type != "error" for output in outputs), source
        drawn = "".join(output.text for output in outputs if output.get("name") == "stderr")
        # A bar is drawn over itself, and wiped out at the end.
        assert drawn.rstrip("\r").rpartition("\r")[2].strip() == "", (source, drawn)


def test_the_numbers_are_good(executed):
    texts = {source: outputs for source, (_, outputs) in results(executed).items()}
    (pair,) = (outputs[0]["data"]["text/plain"] for source, outputs in texts.items() if "def accuracy" in source)
    before, after = map(float, pair.strip("()").split(", "))
    assert before > 0.99 and after > 0.9
    (table,) = (outputs[0]["data"]["text/html"] for source, outputs in texts.items() if "nsmallest" in source)
    assert table.count("<tr") == 4 and "PR_RANDOM" not in table
