// The extension's entry: makes the parts and gives them to the editor. All that needs no editor is in src/protocol (the
// session with the daemon) and src/model (trees, tables and pages).
'use strict';

const vscode = require('vscode');
const commands = require('./src/editor/commands');
const outline = require('./src/editor/outline');
const structure = require('./src/editor/structure');
const { Jobs } = require('./src/editor/jobs');
const { Models } = require('./src/editor/models');
const { Daemon } = require('./src/protocol/daemon');

// Those that decide which daemon it is.
const DAEMON_SETTINGS = ['server', 'socket', 'threads'];

let daemon;

function activate(context) {
  const log = vscode.window.createOutputChannel('Espalier');
  const settings = () => {
    const configuration = vscode.workspace.getConfiguration('espalier');
    return Object.fromEntries(DAEMON_SETTINGS.map((name) => [name, configuration.get(name)]));
  };
  const clientInfo = { name: 'vscode', version: vscode.version };
  daemon = new Daemon(settings, { log: (line) => log.appendLine(line), clientInfo });
  const jobs = new Jobs(daemon);
  const models = new Models(daemon, context.workspaceState);
  context.subscriptions.push(
    log,
    jobs,
    ...structure.register(models),
    ...outline.register(models),
    ...commands.register(models, jobs),
    vscode.commands.registerCommand('espalier.cancel', () => jobs.cancel()),
    vscode.commands.registerCommand('espalier.showLog', () => log.show()),
    vscode.commands.registerCommand('espalier.restart', () => daemon.close()),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (DAEMON_SETTINGS.some((name) => change.affectsConfiguration(`espalier.${name}`))) daemon.close();
    }),
  );
}

const deactivate = () => daemon?.close();

module.exports = { activate, deactivate };
