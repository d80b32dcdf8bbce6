// The archive that is installed: that it is whole, by activating the extension out of it.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const { scratch } = require('./support');
const { load, standIn } = require('./vscode-stand-in');

test('the package holds all that the extension needs', (t) => {
  const folder = scratch(t);
  const make = (name) => {
    execFileSync('python3', [path.resolve(__dirname, '../package.py'), path.join(folder, name)]);
    return fs.readFileSync(path.join(folder, name));
  };
  assert.deepEqual(make('one.vsix'), make('two.vsix'));
  execFileSync('python3', ['-m', 'zipfile', '-e', path.join(folder, 'one.vsix'), folder]);
  const unpacked = fs.readdirSync(folder).filter((file) => !file.endsWith('.vsix'));
  assert.deepEqual(unpacked.sort(), ['[Content_Types].xml', 'extension', 'extension.vsixmanifest']);

  const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'extension/package.json')));
  const listing = fs.readFileSync(path.join(folder, 'extension.vsixmanifest'), 'utf8');
  for (const [, file] of listing.matchAll(/Path="([^"]*)"/g)) assert.ok(fs.existsSync(path.join(folder, file)), file);
  assert.match(listing, new RegExp(`Id="${manifest.name}" Version="${manifest.version}"`));
  const icon = manifest.contributes.viewsContainers.activitybar[0].icon;
  assert.ok(fs.existsSync(path.join(folder, 'extension', icon)));
  // Every kind of file has its content type.
  const types = fs.readFileSync(path.join(folder, '[Content_Types].xml'), 'utf8');
  const files = fs.readdirSync(path.join(folder, 'extension'), { recursive: true });
  for (const file of files.filter((file) => path.extname(file))) assert.ok(types.includes(`Extension="${path.extname(file)}"`), file);

  const { vscode, seen } = standIn();
  const extension = load(path.join(folder, 'extension', manifest.main), vscode);
  extension.activate({ subscriptions: [], workspaceState: { get: () => undefined } });
  assert.ok(seen.commands.has('espalier.compress'));
});
