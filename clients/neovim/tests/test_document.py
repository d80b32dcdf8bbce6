"""What docs/editors.md tells to type, typed: installation in an empty home, then every command on a model."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from test_neovim import MODELS, NEOVIM, REPOSITORY, SECONDS, SERVER

DOCUMENT = (REPOSITORY / "docs" / "editors.md").read_text()
DRIVER = """
local failed = {}
vim.notify = function(message, level)
  if level == vim.log.levels.ERROR and not message:find('cancelled', 1, true) then
    table.insert(failed, message)
  end
end
local view, server = require('espalier.view'), require('espalier.server')
local function idle()
  return server.latest() == nil
end
vim.cmd('edit model.onnx')
assert(vim.wait(20000, function() return view.of(0).outline end, 5), 'no outline')
dofile('settings.lua')
assert(vim.api.nvim_eval_statusline(vim.o.statusline, {}).str:find('model.onnx', 1, true))
for line in io.lines('commands.vim') do
  vim.cmd(line)
  assert(vim.wait(20000, idle, 5), line .. ' does not end')
  vim.wait(50)
  if #failed > 0 then
    error(line .. ': ' .. failed[1])
  end
end
vim.cmd('help espalier-outline')
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with nothing in it, and the repository's clients beside it; `code` is a program that takes note."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for client in ("neovim", "vscode"):
        shutil.copytree(REPOSITORY / "clients" / client, tmp_path / "clients" / client)
    shutil.copy(REPOSITORY / "LICENSE", tmp_path)
    shutil.copy(MODELS / "digits_resnet.onnx", tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", np.load(MODELS / "digits_calibration.npy")[:64])
    code = tmp_path / "bin" / "code"
    code.parent.mkdir()
    code.write_text('#!/bin/sh\necho "$@" > installed\n')
    code.chmod(0o755)
    if os.path.isabs(NEOVIM):
        (code.parent / "nvim").symlink_to(NEOVIM)
    monkeypatch.setenv("PATH", f"{code.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ESPALIER_SERVER", str(SERVER))
    return tmp_path


def test_all_that_the_document_says_works(home):
    for block in blocks("sh"):
        subprocess.run(["sh", "-euc", block], cwd=home, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert (home / "installed").read_text() == "--install-extension espalier.vsix\n"
    assert (home / "espalier.vsix").stat().st_size > 10_000

    (home / "commands.vim").write_text("".join(blocks("vim")))
    (home / "settings.lua").write_text("".join(blocks("lua")))
    (home / "driver.lua").write_text(DRIVER)
    script = "lua local ok, e = pcall(dofile, 'driver.lua') if not ok then io.stderr:write(e) vim.cmd('cquit 1') end"
    done = subprocess.run(
        ["nvim", "--headless", "-n", "-c", script, "-c", "qall!"],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert len(blocks("vim")[0].splitlines()) > 4
    sizes = {name: (home / name).stat().st_size for name in ("model.onnx", "smaller.onnx", "model-compressed.onnx")}
    assert sizes["model-compressed.onnx"] < sizes["smaller.onnx"] < sizes["model.onnx"]
