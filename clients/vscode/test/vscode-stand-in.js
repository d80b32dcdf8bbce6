// A stand-in for the editor's API, as small as the extension needs: it remembers what was registered, answers dialogs
// from a script, and keeps to the API's contracts where the extension relies on them. It proves that the extension is
// wired up, not that the editor shows it well.
'use strict';

const Module = require('node:module');

class EventEmitter {
  #listeners = new Set();
  event = (listener) => {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  };
  fire(value) {
    for (const listener of [...this.#listeners]) listener(value);
  }
}

class TreeItem {
  constructor(label, collapsibleState) {
    Object.assign(this, { label, collapsibleState });
  }
}

class ThemeIcon {
  constructor(id) {
    this.id = id;
  }
}

/** The API, and what happened to it: `settings` and `answers` (by dialog, in order) are the test's to fill. */
function standIn() {
  const [commands, editors, trees] = [new Map(), new Map(), new Map()];
  const seen = { commands, editors, trees, contexts: {}, panels: [], messages: [], progress: [] };
  const settings = {};
  const dialogs = ['showQuickPick', 'showInputBox', 'showOpenDialog', 'showSaveDialog', 'showInformationMessage'];
  const answers = Object.fromEntries(dialogs.map((dialog) => [dialog, []]));
  const configurationChanged = new EventEmitter();
  const uri = (fsPath) => ({ scheme: 'file', fsPath, path: fsPath });

  const panel = (title) => {
    const disposed = new EventEmitter();
    const state = new EventEmitter();
    const made = {
      title,
      active: true,
      webview: { html: '', options: {} },
      onDidDispose: disposed.event,
      onDidChangeViewState: state.event,
      dispose: () => disposed.fire(),
      activate: () => state.fire(),
    };
    seen.panels.push(made);
    return made;
  };

  const ask = (dialog) => async (...given) => {
    if (answers[dialog].length === 0) return undefined; // dismissed
    const answer = answers[dialog].shift();
    return typeof answer === 'function' ? answer(...given) : answer;
  };
  const tell = (level) => async (text, ...buttons) => {
    seen.messages.push({ level, text });
    return level === 'information' ? ask('showInformationMessage')(text, ...buttons) : undefined;
  };

  const vscode = {
    version: '1.75.0',
    EventEmitter,
    TreeItem,
    ThemeIcon,
    TreeItemCollapsibleState: { None: 0, Collapsed: 1, Expanded: 2 },
    StatusBarAlignment: { Left: 1 },
    ProgressLocation: { Notification: 15 },
    ViewColumn: { Beside: -2 },
    Uri: { file: uri },
    commands: {
      registerCommand(name, action) {
        if (seen.commands.has(name)) throw new Error(`command '${name}' already exists`);
        seen.commands.set(name, action);
        return { dispose: () => seen.commands.delete(name) };
      },
      async executeCommand(name, ...given) {
        if (name === 'setContext') seen.contexts[given[0]] = given[1];
        else if (name === 'vscode.openWith') await seen.open(...given);
        else if (!seen.commands.has(name)) throw new Error(`command '${name}' not found`);
        else return seen.commands.get(name)(...given);
      },
    },
    window: {
      showQuickPick: ask('showQuickPick'),
      showInputBox: ask('showInputBox'),
      showOpenDialog: ask('showOpenDialog'),
      showSaveDialog: ask('showSaveDialog'),
      showInformationMessage: tell('information'),
      showWarningMessage: tell('warning'),
      showErrorMessage: tell('error'),
      createOutputChannel: () => ({ lines: [], appendLine() {}, show() {}, dispose() {} }),
      createStatusBarItem() {
        const show = (visible) => () => Object.assign(seen.status, { visible });
        seen.status = { visible: false, show: show(true), hide: show(false), dispose() {} };
        return seen.status;
      },
      createTreeView(id, options) {
        const view = { ...options, revealed: [], reveal: (node) => view.revealed.push(node.id), dispose() {} };
        seen.trees.set(id, view);
        return view;
      },
      registerCustomEditorProvider(viewType, provider, options) {
        seen.editors.set(viewType, { provider, options });
        return { dispose() {} };
      },
      createWebviewPanel: (viewType, title, column, options) => Object.assign(panel(title), { viewType, options }),
      async withProgress(options, task) {
        const cancelled = new EventEmitter();
        const shown = { ...options, steps: [], cancel: () => cancelled.fire() };
        seen.progress.push(shown);
        return task({ report: (step) => shown.steps.push(step) }, { onCancellationRequested: cancelled.event });
      },
    },
    workspace: {
      getConfiguration: (section) => ({ get: (name) => settings[`${section}.${name}`] }),
      onDidChangeConfiguration: configurationChanged.event,
    },
  };

  // What the editor does with a file that a custom editor takes.
  seen.open = async (resource, viewType) => {
    const { provider } = seen.editors.get(viewType);
    const document = await provider.openCustomDocument(resource, {}, {});
    const shown = panel(resource.fsPath);
    await provider.resolveCustomEditor(document, shown, {});
    return shown;
  };
  const changeSetting = (name, value) => {
    settings[name] = value;
    configurationChanged.fire({ affectsConfiguration: (asked) => name === asked || name.startsWith(`${asked}.`) });
  };
  return { vscode, seen, settings, answers, uri, changeSetting };
}

/** Loads a module for which `require('vscode')` gives the stand-in. */
function load(file, vscode) {
  const original = Module._load;
  Module._load = (request, ...rest) => (request === 'vscode' ? vscode : original(request, ...rest));
  try {
    for (const loaded of Object.keys(require.cache)) {
      if (/\/(extension|src\/editor\/\w+)\.js$/.test(loaded)) delete require.cache[loaded];
    }
    return require(file);
  } finally {
    Module._load = original;
  }
}

module.exports = { standIn, load };
