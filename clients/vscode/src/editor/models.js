// The models that are open, what is known of each, and which of them one is looking at.
'use strict';

const vscode = require('vscode');

class Models {
  #daemon;
  #remembered;
  #byPath = new Map();
  #changed = new vscode.EventEmitter();
  /** Fires with the model that changed: another one is active, or more is known of it. */
  onDidChange = this.#changed.event;
  active = null;

  /** `remembered` (Memento) keeps input shapes by path. */
  constructor(daemon, remembered) {
    this.#daemon = daemon;
    this.#remembered = remembered;
  }

  /** `{uri, path, name, shapes, inspection, error}`, the same for the same file. */
  of(uri) {
    const path = uri.fsPath;
    if (!this.#byPath.has(path)) {
      const shapes = this.#remembered.get(`shapes:${path}`);
      this.#byPath.set(path, { uri, path, name: path.split('/').pop(), shapes, inspection: null, error: null });
    }
    return this.#byPath.get(path);
  }

  activate(model) {
    if (this.active === model) return;
    this.active = model;
    vscode.commands.executeCommand('setContext', 'espalier.hasModel', model !== null);
    this.#changed.fire(model);
  }

  close(model) {
    this.#byPath.delete(model.path);
    if (this.active === model) this.activate(null);
  }

  /** Asks for the structure; never rejects: what went wrong is `model.error`. */
  async inspect(model) {
    Object.assign(model, { inspection: null, error: null });
    this.#changed.fire(model);
    try {
      model.inspection = await this.#daemon.request('inspect', { model: model.path, input_shapes: model.shapes });
    } catch (error) {
      model.error = error;
    }
    this.#changed.fire(model);
  }

  async setShapes(model, shapes) {
    model.shapes = shapes;
    await this.#remembered.update(`shapes:${model.path}`, shapes);
    await this.inspect(model);
  }
}

module.exports = { Models };
