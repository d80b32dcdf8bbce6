"""Documents do what they say: every command and example in them is executed, every link leads somewhere.

Blocks of a page run in its order, in one folder with the shipped networks in it. A block that cannot run here says so to
the reader, in its first line; their number is written down below, so that none becomes one unnoticed.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import espalier
from espalier import __main__ as command_line
from test_espalierd import MODELS, RESNET

REPOSITORY = MODELS.parents[3]
PAGES = ["README.md", "protocol.md"] + sorted(
    str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").rglob("*.md")
)
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
FRAMEWORK = re.compile(r"^import (torch|keras)$", re.M)
NOT_RUN = "# not run by the tests: "
# Blocks that say so: what builds, installs or needs another machine's things.
BLOCKS_NOT_RUN = {"README.md": 4}
# Who runs the blocks of other languages, or of whole pages, and knows that it does.
LANGUAGES = {
    "json request": "Tests/Conformance/test_protocol_examples.py",
    "json response": "Tests/Conformance/test_protocol_examples.py",
    "json notification": "Tests/Conformance/test_protocol_examples.py",
    "json message": "Tests/Conformance/test_protocol_examples.py",
    "vim": "clients/neovim/tests/test_document.py",
    "lua": "clients/neovim/tests/test_document.py",
}
ELSEWHERE = {
    "docs/editors.md": "clients/neovim/tests/test_document.py",
    "docs/pytorch.md": "Tests/Torch/test_documents.py",
    "docs/keras.md": "Tests/Keras/test_keras_documents.py",
}
# Generated from measurements; its one example is of a client that is there.
OPENED = {"docs/decomposition.md": "import espalier\n\nclient = espalier.connect()\n"}


def blocks(page: str) -> list:
    return BLOCK.findall((REPOSITORY / page).read_text())


def runnable(page: str) -> list:
    """(language, text) of the blocks that this file has to run."""
    if page in ELSEWHERE:
        return []
    return [
        (language, text)
        for language, text in blocks(page)
        if language in ("python", "sh") and not text.startswith(NOT_RUN) and not FRAMEWORK.search(text)
    ]


@pytest.fixture
def folder(espalierd, tmp_path, monkeypatch) -> Path:
    """What the examples find: the shipped networks under their names and under those of the text."""
    for model in MODELS.iterdir():
        shutil.copy(model, tmp_path)
    shutil.copy(RESNET, tmp_path / "model.onnx")
    shutil.copy(MODELS / "digits_mobile.onnx", tmp_path / "mobile.onnx")
    shutil.copy(REPOSITORY / "Tests" / "Digits" / "models" / "vit.onnx", tmp_path / "vit.onnx")
    np.save(tmp_path / "images.npy", np.load(MODELS / "digits_calibration.npy")[:96])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPALIER_SERVER", espalierd)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    # The commands of the environment that the tests run in, and the daemon as on PATH.
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "espalier").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m espalier "$@"\n')
    (programs / "espalier").chmod(0o755)
    (programs / "espalierd").symlink_to(espalierd)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.syspath_prepend(str(Path(espalier.__file__).parents[1]))
    monkeypatch.setenv("PYTHONPATH", str(Path(espalier.__file__).parents[1]))
    return tmp_path


@pytest.fixture
def shared_daemon(folder):
    """The one that examples which connect start, and share with those of the shell."""
    with espalier.connect() as client:
        yield
        client.stop_server()


def run_commands(text: str, monkeypatch) -> None:
    """As a shell does, line by line; `espalier` in this process, for starting Python takes longer than its work."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["espalier"] and not set(line) & set("|$><;&*'\""):
            monkeypatch.setattr(sys, "argv", words)
            try:
                status = command_line.main()
            except SystemExit as end:
                status = end.code or 0
            assert status == 0, line
        elif words:
            done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)])
def test_the_examples_run(page, shared_daemon, monkeypatch):
    names: dict = {"__name__": "__main__"}
    exec(OPENED.get(page, ""), names)
    for language, text in runnable(page):
        if language == "sh":
            run_commands(text, monkeypatch)
        else:
            exec(compile(text, f"<{page}>", "exec"), names)


def test_every_block_is_run_by_somebody():
    not_run = {}
    for page in PAGES:
        for language, text in blocks(page):
            assert language in LANGUAGES or language in ("python", "sh", "text"), f"{page}: nothing runs {language!r}"
            if text.startswith(NOT_RUN):
                not_run[page] = not_run.get(page, 0) + 1
        # Commands belong into blocks: what is indented is for looking at.
        shown = re.findall(r"^ {4}((?:espalier|make|pip|python\d?) .*)$", (REPOSITORY / page).read_text(), re.M)
        assert not shown, f"{page}: {shown}"
    assert not_run == BLOCKS_NOT_RUN
    for page, test in [*ELSEWHERE.items(), *((page, test) for page, test in LANGUAGES.items())]:
        name = page if page in ELSEWHERE else ("protocol.md" if page.startswith("json") else "editors.md")
        assert Path(name).name in (REPOSITORY / test).read_text(), f"{test} says nothing of {name}"


def test_examples_with_a_framework_have_their_own_tests():
    """Tests/Torch and Tests/Keras run README's examples that contain these words, one each."""
    texts = [text for language, text in blocks("README.md") if language == "python"]
    assert [sum(word in text for text in texts) for word in ("torch", "keras")] == [1, 1]


def test_inline_commands_can_be_said():
    for page in PAGES:
        for command in re.findall(r"`(espalier [a-z]+ [^`]*)`", (REPOSITORY / page).read_text()):
            command_line.parser().parse_args(re.sub(r'"[^"]*"', "x", command).split()[1:])


def test_make_targets_and_options_exist():
    text = "\n".join((REPOSITORY / page).read_text() for page in PAGES)
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M))
    assert named <= targets and len(named) >= 4, named - targets


def test_the_daemons_options_are_those_of_protocol_md(espalierd):
    told = subprocess.run([espalierd, "--help"], capture_output=True, text=True, check=True).stdout
    table = (REPOSITORY / "protocol.md").read_text().split("## Starting it")[1].split("## Framing")[0]
    written = set(re.findall(r"(--[a-z][a-z-]+)", table))
    assert written == set(re.findall(r"(--[a-z][a-z-]+)", told)) | {"--stdio"}


def anchors(page: Path) -> set:
    """What GitHub calls the headings of a page."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", (REPOSITORY / page).read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(path), f"{page}: {target}"


def test_every_page_is_linked_from_the_readme():
    text = (REPOSITORY / "README.md").read_text() + (REPOSITORY / "docs" / "methods" / "README.md").read_text()
    missing = [page for page in PAGES if page != "README.md" and Path(page).name not in text]
    assert not missing
