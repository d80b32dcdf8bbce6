"""The Python examples of a document, run one after the other as a reader would."""

import re

import daemon
import espalier

FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def in_folder(folder, monkeypatch, request):
    """Where examples run: in a folder of their own, with a daemon of their own."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ESPALIER_SERVER", daemon.server_path())
    # `espalier.connect()` starts a daemon that outlives it.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    request.addfinalizer(lambda: espalier.connect().stop_server())


def run(path, about, names):
    """Executes those that contain `about`, all in one namespace; how many there are."""
    found = [text for text in FENCE.findall((daemon.ROOT / path).read_text()) if about in text]
    for text in found:
        exec(compile(text, f"<{path}>", "exec"), names)
    return len(found)
