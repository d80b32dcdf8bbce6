// The view "Structure": layers and groups of the active model as a tree.
'use strict';

const vscode = require('vscode');
const { tree } = require('../model/tree');

class Structure {
  #models;
  #roots = [];
  #byId = new Map();
  #parents = new Map();
  #changed = new vscode.EventEmitter();
  onDidChangeTreeData = this.#changed.event;

  constructor(models) {
    this.#models = models;
    models.onDidChange((model) => {
      if (model === models.active || models.active === null) this.#rebuild();
    });
  }

  #rebuild() {
    const inspection = this.#models.active?.inspection;
    this.#roots = inspection ? tree(inspection) : [];
    this.#byId.clear();
    this.#parents.clear();
    const enter = (node, parent) => {
      this.#byId.set(node.id, node);
      this.#parents.set(node, parent);
      node.children?.forEach((child) => enter(child, node));
    };
    this.#roots.forEach((root) => enter(root, undefined));
    this.#changed.fire();
  }

  /** The node of this id: where links lead. */
  node(id) {
    return this.#byId.get(id);
  }

  getChildren(node) {
    return node ? (node.children ?? []) : this.#roots;
  }

  // For `reveal`.
  getParent(node) {
    return this.#parents.get(node);
  }

  getTreeItem(node) {
    const { None, Collapsed, Expanded } = vscode.TreeItemCollapsibleState;
    const state = !node.children?.length ? None : node.open ? Expanded : Collapsed;
    const item = new vscode.TreeItem(node.label, state);
    item.id = node.id;
    item.description = node.description;
    item.tooltip = node.tooltip ?? `${node.label} ${node.description ?? ''}`;
    if (node.icon) item.iconPath = new vscode.ThemeIcon(node.icon);
    if (node.target) item.command = { command: 'espalier.reveal', title: 'Go There', arguments: [node.target] };
    return item;
  }
}

/** The view; `espalier.reveal` moves in it to the node of an id. */
function register(models) {
  const structure = new Structure(models);
  const options = { treeDataProvider: structure, showCollapseAll: true };
  const view = vscode.window.createTreeView('espalier.structure', options);
  const reveal = vscode.commands.registerCommand('espalier.reveal', (id) => {
    const node = structure.node(id);
    return node && view.reveal(node, { select: true, focus: true, expand: true });
  });
  const message = models.onDidChange(() => {
    view.message = models.active?.error?.summary;
  });
  return [view, reveal, message];
}

module.exports = { Structure, register };
