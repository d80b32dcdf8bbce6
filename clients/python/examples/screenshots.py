"""Makes docs/images/notebook-*.png: the example notebook, executed, as a browser shows it.

Needs headless Chromium (Debian: chromium, fonts-dejavu-core) and nbconvert besides what the tests need; neither the
tests nor the package do. Run by hand where what notebooks show has changed: clients/python/examples/screenshots.py
"""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import nbclient
import nbconvert
import nbformat

import espalier

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = HERE.parents[2] / "docs" / "images"
# How a cell begins, the picture's name, and its theme.
PICTURES = [
    ('client.inspect(models / "digits_resnet.onnx")', "inspect", "light"),
    ('client.inspect(models / "digits_resnet.onnx")', "inspect-dark", "dark"),
    ("client.recommend(", "recommend", "light"),
    ("%%compress", "compress", "light"),
    ("grid = {", "sweep", "light"),
    ("espalier.sensitivity(", "sensitivity", "light"),
    ("result = client.compress(", "decompose", "light"),
]
WIDTH = 1080
# Twice as many dots as pixels, for screens that have them.
SCALE = "1.5"


def chromium(*arguments: str) -> str:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def height(page: pathlib.Path) -> int:
    """Of what the page shows, in pixels, as the browser lays it out."""
    ask = "document.title = 'height=' + document.querySelector('.jp-Cell').offsetHeight"
    measured = page.with_suffix(".measured.html")
    measured.write_text(f"{page.read_text()}<script>addEventListener('load', () => {{ {ask} }})</script>")
    dom = chromium(f"--window-size={WIDTH},800", "--virtual-time-budget=3000", "--dump-dom", measured.as_uri())
    (found,) = re.findall(r"<title>height=(\d+)</title>", dom)
    return int(found) + 40


def picture(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode, name: str, theme: str, folder: pathlib.Path):
    alone = nbformat.v4.new_notebook(cells=[cell], metadata=notebook.metadata)
    exporter = nbconvert.HTMLExporter(template_name="lab", theme=theme)
    text, _ = exporter.from_notebook_node(alone)
    # JupyterLab says its theme on <body>; what nbconvert writes leaves it out. Nothing is fetched for a picture.
    light = json.dumps(theme == "light")
    text = text.replace("<body ", f"<body data-jp-theme-light='{light}' ", 1)
    text = re.sub(r"<script src=[^>]*></script>", "", text)
    page = folder / f"{name}.html"
    page.write_text(text)
    target = IMAGES / f"notebook-{name}.png"
    chromium(f"--window-size={WIDTH},{height(page)}", f"--force-device-scale-factor={SCALE}", f"--screenshot={target}",
             page.as_uri())  # fmt: skip
    print(f"{target.relative_to(HERE.parents[2])}: {html.escape(cell.source.splitlines()[0])}")


def main():
    with tempfile.TemporaryDirectory(prefix="espalier-") as name:
        folder = pathlib.Path(name)
        shutil.copytree(HERE / "models", folder / "models")
        os.environ["XDG_RUNTIME_DIR"] = name
        notebook = nbformat.read(HERE / "notebook.ipynb", as_version=4)
        try:
            nbclient.NotebookClient(notebook, resources={"metadata": {"path": name}}).execute()
            for cell in notebook.cells:
                cell.outputs = [each for each in cell.get("outputs", []) if each.get("name") != "stderr"]
            for beginning, title, theme in PICTURES:
                (cell,) = (each for each in notebook.cells if each.source.startswith(beginning))
                picture(notebook, cell, title, theme, folder)
        finally:
            with espalier.connect() as client:
                client.stop_server()


if __name__ == "__main__":
    main()
