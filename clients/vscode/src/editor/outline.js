// Model files as editors: a readonly outline instead of binary data. The file itself is read by the daemon alone.
'use strict';

const vscode = require('vscode');
const pages = require('../model/html');

const HINTS = {
  'model.inputShapes': 'Say the shapes of the inputs: "Espalier: Read Model Again".',
  'server.notFound': 'Set "espalier.server" to the path of espalierd.',
};

function pageOf({ name, inspection, error }) {
  if (error) return pages.errorPage(name, error, HINTS[error.kind]);
  return inspection ? pages.outlinePage(inspection) : pages.waitingPage(name);
}

class OutlineEditor {
  #models;

  constructor(models) {
    this.#models = models;
  }

  openCustomDocument(uri) {
    return { uri, dispose() {} };
  }

  async resolveCustomEditor(document, panel) {
    panel.webview.options = { enableScripts: false };
    if (document.uri.scheme !== 'file') {
      // An earlier version in a comparison, for instance: the daemon reads files.
      const name = document.uri.path.split('/').pop();
      const error = { kind: document.uri.scheme, message: 'This version of the model is not a file on the disk.' };
      panel.webview.html = pages.errorPage(name, error);
      return;
    }
    const model = this.#models.of(document.uri);
    const show = () => {
      panel.webview.html = pageOf(model);
    };
    const subscription = this.#models.onDidChange((changed) => {
      if (changed === model) show();
    });
    panel.onDidChangeViewState(() => {
      if (panel.active) this.#models.activate(model);
    });
    panel.onDidDispose(() => {
      subscription.dispose();
      this.#models.close(model);
    });
    this.#models.activate(model);
    show();
    await this.#models.inspect(model);
  }
}

function register(models) {
  const editor = new OutlineEditor(models);
  return ['espalier.model', 'espalier.modelOnRequest'].map((viewType) =>
    vscode.window.registerCustomEditorProvider(viewType, editor, { supportsMultipleEditorsPerDocument: false }),
  );
}

module.exports = { register };
