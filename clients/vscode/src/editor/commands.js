// The commands: opening a model, recommending, and compressing as recommended or as a plan says.
'use strict';

const path = require('node:path');
const vscode = require('vscode');
const plan = require('../model/plan');
const { planPage } = require('../model/html');

const MODEL_FILES = { 'Neural networks': ['onnx', 'pt', 'pt2', 'keras', 'h5', 'hdf5'] };
const VIEW_TYPE = 'espalier.model';
// What a method that is offered is good for, in protocol.md's words.
const METHODS = {
  PR_L2: 'prunes channels of small norm: the common choice',
  PR_GM: 'prunes channels that others stand in for',
  PR_NN: 'prunes by feature maps; needs a dataset',
  PR_SNP: 'prunes transformers by attention; needs a dataset there',
  PR_L1: 'much like PR_L2',
  PR_BN_L2: 'prunes by norm after batch normalization',
  PR_GROUP_L2: 'prunes channels that nobody listens to',
  PR_RANDOM: 'prunes at random: a baseline',
  PR_REC: 'prunes what later layers can best make up for; needs a dataset',
  FD_TK: 'decomposes convolutions (Tucker)',
  FD_SVD: 'decomposes fully connected layers and 1x1 convolutions',
  [plan.AUTOMATIC]: 'prunes and decomposes, chosen layer by layer for a size; best with a dataset',
};
const NEEDS_DATASET = ['PR_NN', 'PR_SNP', 'PR_REC'];
const NO_SAMPLES = { label: 'No samples', description: 'decide by weights alone' };
const SAMPLES = { label: 'Samples...', description: 'a few hundred inputs without labels: .npy, .npz or a folder' };
const REFIT = { label: 'Samples, and fit what is left anew...', description: 'keeps accuracy by far the best' };

const isNumber = (text) => text.trim() !== '' && Number.isFinite(Number(text));
const setting = (name) => vscode.workspace.getConfiguration('espalier').get(name);

class Commands {
  #models;
  #jobs;
  // The plan that each plan panel shows, by its number.
  #plans = new Map();
  #latestPlan = 0;

  constructor(models, jobs) {
    this.#models = models;
    this.#jobs = jobs;
  }

  /** From the explorer with a file, else asks for one. */
  async open(uri) {
    const chosen = uri ?? (await vscode.window.showOpenDialog({ filters: MODEL_FILES }))?.[0];
    if (chosen) await vscode.commands.executeCommand('vscode.openWith', chosen, VIEW_TYPE);
  }

  async refresh() {
    const model = this.#activeModel();
    if (!model) return;
    if (model.error?.kind !== 'model.inputShapes') return this.#models.inspect(model);
    const inputs = model.error.data.inputs ?? [];
    const text = await vscode.window.showInputBox({
      title: `Shapes of the inputs of ${model.name}`,
      prompt: `One for each input (${inputs.join(', ')}), separated by semicolons`,
      placeHolder: '1,3,224,224',
      validateInput: (typed) => (plan.parseShapes(typed) ? undefined : 'For example: 1,3,224,224'),
    });
    if (text) await this.#models.setShapes(model, plan.parseShapes(text));
  }

  async recommend() {
    const model = this.#activeModel();
    const request = model && (await this.#ask(model));
    const answer = request && (await this.#jobs.run('Recommending', 'recommend', request));
    if (!answer) return;
    const id = ++this.#latestPlan;
    const panel = vscode.window.createWebviewPanel('espalier.plan', `Plan: ${model.name}`, vscode.ViewColumn.Beside, {
      enableScripts: false,
      enableCommandUris: ['espalier.compressPlan'],
    });
    this.#plans.set(id, { model, request });
    panel.onDidDispose(() => this.#plans.delete(id));
    const command = `command:espalier.compressPlan?${encodeURIComponent(JSON.stringify([id]))}`;
    panel.webview.html = planPage(request, answer, command);
  }

  async compress() {
    const model = this.#activeModel();
    const request = model && (await this.#ask(model));
    if (request) await this.#compress(model, request);
  }

  async compressPlan(id) {
    const planned = this.#plans.get(id);
    if (planned) await this.#compress(planned.model, planned.request);
  }

  async #compress(model, request) {
    const { dir, name, ext } = path.parse(model.path);
    // The dialog asks before it lets an existing file be chosen.
    const target = await vscode.window.showSaveDialog({
      defaultUri: vscode.Uri.file(path.join(dir, `${name}-compressed${ext}`)),
      filters: { 'Same format': [ext.slice(1)] },
    });
    if (!target) return;
    const output = { output_path: target.fsPath, overwrite: true, verify: setting('verify') };
    const answer = await this.#jobs.run('Compressing', 'compress', { ...request, ...output });
    if (!answer) return;
    for (const warning of answer.warnings) vscode.window.showWarningMessage(warning);
    const { status } = answer.verification;
    const verified = status === 'skipped' ? '' : `, verified: ${status}`;
    const refitted = answer.reconstruction?.kept ? ', refitted' : '';
    const text = `${path.basename(target.fsPath)}: ${plan.summary(answer)}${refitted}${verified}`;
    if ((await vscode.window.showInformationMessage(text, 'Open')) === 'Open') await this.open(target);
  }

  #activeModel() {
    if (!this.#models.active) vscode.window.showInformationMessage('Open a model first: "Espalier: Open Model..."');
    return this.#models.active;
  }

  /** Method, goal, number and samples, one after another; the params of `recommend`, or undefined where one was dismissed. */
  async #ask(model) {
    const offered = setting('defaultMethod');
    const methods = [offered, ...Object.keys(METHODS).filter((method) => method !== offered)];
    const method = await vscode.window.showQuickPick(
      methods.map((label) => ({ label, description: METHODS[label] })),
      { title: `Compress ${model.name}: method` },
    );
    if (!method) return undefined;
    const goal = await vscode.window.showQuickPick(plan.goalsOf(method.label), { title: `${method.label}: goal` });
    if (!goal) return undefined;
    const value = await vscode.window.showInputBox({
      title: goal.label,
      value: goal.value,
      validateInput: (typed) => (isNumber(typed) ? undefined : 'A number, such as 0.5'),
    });
    if (value === undefined) return undefined;
    const offers = [...(NEEDS_DATASET.includes(method.label) ? [] : [NO_SAMPLES]), SAMPLES, REFIT];
    const samples = await vscode.window.showQuickPick(offers, { title: `${method.label}: samples` });
    if (!samples) return undefined;
    let dataset;
    if (samples !== NO_SAMPLES) {
      const options = { title: 'Samples', canSelectFolders: true, filters: { NumPy: ['npy', 'npz'] } };
      dataset = (await vscode.window.showOpenDialog(options))?.[0]?.fsPath;
      if (!dataset) return undefined;
    }
    const reconstruct = samples === REFIT ? 'least_squares' : undefined;
    const more = { shapes: model.shapes, options: setting('options'), dataset, reconstruct };
    return plan.request(model.path, method.label, goal.id, Number(value), more);
  }
}

/** The commands of package.json, by name. */
function register(models, jobs) {
  const commands = new Commands(models, jobs);
  return ['open', 'refresh', 'recommend', 'compress', 'compressPlan'].map((name) =>
    vscode.commands.registerCommand(`espalier.${name}`, (...given) => commands[name](...given)),
  );
}

module.exports = { register };
