// The extension in the stand-in for the editor, with the real daemon behind it.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const manifest = require('../package.json');
const { MODELS, RESNET, SERVER, scratch, until, writeLargeModel } = require('./support');
const { load, standIn } = require('./vscode-stand-in');

function activate(t, more = {}) {
  const editor = standIn();
  for (const [name, { default: value }] of Object.entries(manifest.contributes.configuration.properties)) {
    editor.settings[name] = value;
  }
  Object.assign(editor.settings, { 'espalier.server': SERVER, 'espalier.socket': 'none', ...more });
  const extension = load(path.resolve(__dirname, '../extension.js'), editor.vscode);
  const remembered = new Map();
  const get = (key) => remembered.get(key);
  const update = async (key, value) => remembered.set(key, value);
  const context = { subscriptions: [], workspaceState: { get, update } };
  extension.activate(context);
  t.after(async () => {
    await extension.deactivate();
    context.subscriptions.forEach((part) => part.dispose());
  });
  editor.run = (name, ...given) => editor.vscode.commands.executeCommand(`espalier.${name}`, ...given);
  return editor;
}

// The answers to method, goal, number and samples.
function choose({ answers }, method, goal, value, samples = 'No samples') {
  answers.showQuickPick.push(
    (items) => items.find(({ label }) => label === method),
    (items) => items.find(({ id }) => id === goal),
    (items) => items.find(({ label }) => label === samples),
  );
  answers.showInputBox.push(value);
}

test('what package.json contributes is there, and nothing else', (t) => {
  const { seen } = activate(t);
  const { commands, customEditors, views, menus } = manifest.contributes;
  const internal = ['espalier.reveal']; // of the tree's items
  assert.deepEqual([...seen.commands.keys()].sort(), [...commands.map(({ command }) => command), ...internal].sort());
  assert.deepEqual([...seen.editors.keys()], customEditors.map(({ viewType }) => viewType));
  assert.deepEqual([...seen.trees.keys()], views.espalier.map(({ id }) => id));
  const used = Object.values(menus).flat().map(({ command }) => command);
  for (const command of used) assert.ok(seen.commands.has(command), command);
  assert.equal(seen.status.visible, false); // nothing is shown before it is used
});

test('a model opens as its outline and fills the tree', async (t) => {
  const { seen, run, uri, answers } = activate(t);
  answers.showOpenDialog.push([uri(RESNET)]);
  await run('open');
  const [panel] = seen.panels;
  assert.match(panel.webview.html, /digits_resnet\.onnx/);
  assert.equal(panel.webview.options.enableScripts, false);
  assert.equal(seen.contexts['espalier.hasModel'], true);

  const view = seen.trees.get('espalier.structure');
  const provider = view.treeDataProvider;
  const [, layers, groups] = provider.getChildren();
  assert.equal(provider.getTreeItem(layers).collapsibleState, 2);
  assert.deepEqual([provider.getChildren(layers).length, provider.getChildren(groups).length], [14, 8]);
  const stem = provider.getChildren(layers)[0];
  const item = provider.getTreeItem(stem);
  assert.deepEqual([item.label, item.iconPath.id, item.collapsibleState], ['/stem/stem.0/Conv', 'symbol-array', 1]);
  assert.match(item.tooltip, /always together with those of/);
  assert.equal(provider.getParent(stem), layers);
  // A coupled layer leads to that layer.
  const link = provider.getTreeItem(provider.getChildren(stem).find(({ label }) => label === 'with'));
  await run('reveal', ...link.command.arguments);
  assert.deepEqual(view.revealed, ['layer:/blocks/blocks.0/conv2/Conv']);
  assert.match(seen.status.tooltip, /private/);

  panel.dispose();
  assert.equal(seen.contexts['espalier.hasModel'], false);
  assert.deepEqual(provider.getChildren(), []);
});

test('what is no file is not mistaken for the file of its name', async (t) => {
  const { seen, run } = activate(t);
  await run('open', { scheme: 'git', fsPath: RESNET, path: RESNET });
  assert.match(seen.panels[0].webview.html, /not a file on the disk/);
  assert.equal(seen.contexts['espalier.hasModel'], undefined);
});

test('the tree follows the editor that one looks at', async (t) => {
  const { seen, run, uri } = activate(t);
  await run('open', uri(RESNET));
  await run('open', uri(path.join(MODELS, 'digits_mobile.onnx')));
  const provider = seen.trees.get('espalier.structure').treeDataProvider;
  assert.equal(provider.getChildren()[1].description, '23');
  seen.panels[0].activate();
  assert.equal(provider.getChildren()[1].description, '14');
});

test('a recommendation opens as a plan, and is compressed as planned', async (t) => {
  const folder = scratch(t);
  const editor = activate(t, { 'espalier.options': { step_size: 4 } });
  const { seen, run, uri, answers } = editor;
  await run('open', uri(RESNET));
  choose(editor, 'PR_GM', 'ratio', '0.4');
  await run('recommend');
  const plan = seen.panels.at(-1);
  assert.match(plan.webview.html, /digits_resnet\.onnx: PR_GM, ratio 0\.4/);
  assert.deepEqual(plan.options.enableCommandUris, ['espalier.compressPlan']);
  const [, encoded] = /href="command:espalier\.compressPlan\?([^"]*)"/.exec(plan.webview.html);

  const output = path.join(folder, 'planned.onnx');
  answers.showSaveDialog.push(({ defaultUri }) => {
    assert.match(defaultUri.fsPath, /\/digits_resnet-compressed\.onnx$/);
    return uri(output);
  });
  answers.showInformationMessage.push('Open');
  await run('compressPlan', ...JSON.parse(decodeURIComponent(encoded)));
  assert.match(seen.messages.at(-1).text, /^planned\.onnx: parameters 179k → /);
  assert.ok(fs.statSync(output).size < fs.statSync(RESNET).size);
  assert.match(seen.panels.at(-1).webview.html, /planned\.onnx/);
  plan.dispose();
  answers.showSaveDialog.push(uri(output));
  await run('compressPlan', 1);
  assert.equal(answers.showSaveDialog.length, 1); // not asked: the plan went with its panel
});

test('methods are chosen for a size, and weights fitted anew to samples', async (t) => {
  const folder = scratch(t);
  const editor = activate(t);
  const { seen, run, uri, answers } = editor;
  await run('open', uri(path.join(MODELS, 'digits_mobile.onnx')));
  choose(editor, 'automatic', 'macs', '0.5');
  await run('recommend');
  const plan = seen.panels.at(-1).webview.html;
  assert.match(plan, /digits_mobile\.onnx: automatic, 0\.5 of macs/);
  // Layers get ranks, and groups lose channels.
  assert.match(plan, /<td class="number">24 → 96<\/td><td class="number">rank \d+<\/td>/);
  const kept = /<\/code><\/td><td class="number">(\d+)<\/td><td class="number">(\d+)<\/td>/;
  const [, before, after] = kept.exec(plan);
  assert.ok(Number(after) > 0 && Number(after) < Number(before), `${before} to ${after}`);

  await run('open', uri(RESNET));
  choose(editor, 'PR_L2', 'macs', '0.5', 'Samples, and fit what is left anew...');
  answers.showOpenDialog.push([uri(path.join(MODELS, 'digits_calibration.npy'))]);
  answers.showSaveDialog.push(uri(path.join(folder, 'refitted.onnx')));
  await run('compress');
  assert.match(seen.messages.at(-1).text, /^refitted\.onnx: parameters 179k → .*, refitted$/);
});

test('every question can be dismissed', async (t) => {
  const editor = activate(t);
  const { seen, run, uri, answers } = editor;
  await run('open'); // no file chosen
  await run('compress'); // no model
  assert.match(seen.messages[0].text, /Open a model first/);
  await run('open', uri(RESNET));
  const told = seen.messages.length;
  await run('compress');
  answers.showQuickPick.push((items) => items[0]);
  await run('compress');
  answers.showQuickPick.push((items) => items[0], (items) => items[0]);
  await run('compress');
  choose(editor, 'PR_NN', 'ratio', '0.5'); // cannot go without samples
  await run('compress');
  choose(editor, 'PR_NN', 'ratio', '0.5', 'Samples...');
  await run('compress'); // no dataset
  choose(editor, 'PR_L2', 'ratio', '0.5');
  await run('compress'); // no file to write
  assert.equal(seen.messages.length, told);
  assert.equal(seen.progress.length, 0);
});

test('numbers and shapes are checked while they are typed', async (t) => {
  const { run, uri, answers, seen } = activate(t);
  await run('open', uri(RESNET));
  answers.showQuickPick.push((items) => items[0], (items) => items[0]);
  answers.showInputBox.push(({ validateInput, value }) => {
    assert.equal(validateInput(value), undefined);
    for (const wrong of ['', 'half', '0,5']) assert.ok(validateInput(wrong), wrong);
    return undefined;
  });
  await run('recommend');
  assert.equal(seen.panels.length, 1);
});

test('errors are told with their kind', async (t) => {
  const folder = scratch(t);
  const editor = activate(t, { 'espalier.options': { step_sise: 4 } });
  const { seen, run, uri } = editor;
  await run('open', uri(RESNET));
  choose(editor, 'PR_L2', 'ratio', '0.5');
  await run('recommend');
  assert.match(seen.messages.at(-1).text, /^invalid \/options\/step_sise: /);
  const broken = path.join(folder, '<b>.onnx');
  fs.writeFileSync(broken, 'no model');
  await run('open', uri(broken));
  assert.match(seen.panels.at(-1).webview.html, /<p class="error">model\.\w+<\/p>/);
  assert.ok(!seen.panels.at(-1).webview.html.includes('<b>.onnx'));
  assert.match(seen.trees.get('espalier.structure').message, /^model\./);
});

test('a GraphModule is given its shapes, which are remembered', async (t) => {
  const { seen, run, uri, answers } = activate(t);
  const file = uri(path.join(MODELS, 'digits_resnet.pt'));
  await run('open', file);
  assert.match(seen.panels[0].webview.html, /model\.inputShapes.*Read Model Again/s);
  answers.showInputBox.push(({ prompt, validateInput }) => {
    assert.match(prompt, /\(x\)/);
    assert.ok(validateInput('1,one'));
    return '1,1,8,8';
  });
  await run('refresh');
  assert.match(seen.panels[0].webview.html, /blocks\.0\.conv1/);
  seen.panels[0].dispose();
  await run('open', file);
  assert.match(seen.panels[1].webview.html, /blocks\.0\.conv1/);
});

test('a compression shows how far it is, and is cancelled by its button or the status bar', async (t) => {
  const folder = scratch(t);
  const editor = activate(t);
  const { seen, run, uri, answers } = editor;
  const model = path.join(folder, 'large.onnx');
  for (const [seed, cancel] of [() => seen.progress.at(-1).cancel(), () => run('cancel')].entries()) {
    await run('open', uri(writeLargeModel(model, seed))); // other weights, nothing of which is known yet
    const told = seen.messages.length;
    choose(editor, 'FD_TK', 'macs', '0.5');
    answers.showSaveDialog.push(uri(path.join(folder, 'never.onnx')));
    const shown = seen.progress.length;
    const compression = run('compress');
    const progress = await until(() => seen.progress[shown], 'the notification');
    assert.deepEqual([progress.title, progress.cancellable], ['Compressing', true]);
    await until(() => progress.steps.length > 0, 'a step');
    assert.match(seen.status.text, /^\$\(sync~spin\) Compressing/);
    await cancel();
    await compression;
    assert.equal(seen.messages.length, told); // who cancels knows
    assert.match(seen.status.text, /Espalier$/);
    assert.deepEqual(fs.readdirSync(folder), ['large.onnx']);
    await until(() => run('refresh').then(() => true), 'the daemon');
  }
});

test('another program or socket takes effect with the next request', async (t) => {
  const editor = activate(t, { 'espalier.server': '/nowhere/espalierd' });
  const { seen, run, uri, changeSetting } = editor;
  await run('open', uri(RESNET));
  assert.match(seen.panels[0].webview.html, /server\.notFound.*espalier\.server/s);
  changeSetting('espalier.server', SERVER);
  await run('refresh');
  assert.match(seen.panels[0].webview.html, /Layers/);
  changeSetting('espalier.threads', 1);
  await run('refresh');
  assert.match(seen.panels[0].webview.html, /Layers/);
  await run('restart');
  await run('refresh');
  assert.match(seen.panels[0].webview.html, /Layers/);
});
