#!/usr/bin/env bash
# Takes the pictures of docs/editors.md: Neovim in a real terminal (tmux, its screen turned into a page by aha), and the
# pages that the VS Code extension shows, both in headless Chromium. Needs nvim, tmux, aha, node, chromium, espalierd.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'tmux -L espalier-pictures kill-server 2>/dev/null || true; rm -r "$work"' EXIT
cp "$root/clients/python/examples/models/digits_resnet.onnx" "$work"
cd "$work"

shoot() { # page, picture, width, height
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars \
    --window-size="$3,$4" --screenshot="$here/$2" "file://$1" 2>/dev/null
}

screen() {
  tmux -L espalier-pictures capture-pane -e -p | aha --black --stylesheet >"$work/screen.html"
  local style='body { margin: 0 } pre { margin: 0.6em; font: 13px/1.25 "DejaVu Sans Mono", monospace }'
  sed -i "s|</style>|$style</style>|" "$work/screen.html"
}

cat >"$work/init.vim" <<VIM
set runtimepath^=$root/clients/neovim termguicolors laststatus=2 noruler noshowcmd background=dark
runtime plugin/espalier.lua
VIM
export TERM=xterm-256color LANG=C.UTF-8
tmux -L espalier-pictures -f /dev/null new-session -d -x 108 -y 58 'nvim -u init.vim -i NONE -n digits_resnet.onnx'
sleep 2
tmux -L espalier-pictures send-keys ']]]]]]' zo
sleep 1
tmux -L espalier-pictures send-keys ':EspalierRecommend ratio=0.3' Enter
sleep 2
screen
shoot "$work/screen.html" neovim.png 860 960

cat >"$work/pages.js" <<JS
const fs = require('node:fs');
const { Daemon } = require('$root/clients/vscode/src/protocol/daemon');
const { outlinePage, planPage } = require('$root/clients/vscode/src/model/html');
const plan = require('$root/clients/vscode/src/model/plan');
const daemon = new Daemon(() => ({ socket: 'none' }));
const model = '$work/digits_resnet.onnx';
(async () => {
  const outline = outlinePage(await daemon.request('inspect', { model }));
  fs.writeFileSync('outline.html', outline.replace('<details>', '<details open>'));
  const request = plan.request(model, 'PR_L2', 'ratio', 0.3);
  fs.writeFileSync('plan.html', planPage(request, await daemon.request('recommend', request), 'command:'));
  await daemon.close();
})();
JS
node "$work/pages.js"
shoot "$work/outline.html" vscode-outline.png 940 1000
shoot "$work/plan.html" vscode-plan.png 940 480
