// Long requests: a notification with progress and a button to cancel, and the item in the status bar.
'use strict';

const vscode = require('vscode');

class Jobs {
  #daemon;
  #running = new Set();
  #item = vscode.window.createStatusBarItem('espalier.status', vscode.StatusBarAlignment.Left);

  constructor(daemon) {
    this.#daemon = daemon;
    this.#item.name = 'Espalier';
    daemon.onChange = () => this.#show();
    this.#show();
  }

  /** Asks the daemon, showing how far it is. Undefined where it was cancelled or failed, which is told here. */
  async run(title, method, params) {
    const job = { title, controller: new AbortController(), percentage: 0, message: '' };
    this.#running.add(job);
    this.#show();
    try {
      return await vscode.window.withProgress(
        { location: vscode.ProgressLocation.Notification, title, cancellable: true },
        (progress, token) => {
          token.onCancellationRequested(() => job.controller.abort());
          return this.#daemon.request(method, params, {
            signal: job.controller.signal,
            onProgress: (step) => this.#report(job, step, progress),
          });
        },
      );
    } catch (error) {
      this.#tell(error);
      return undefined;
    } finally {
      this.#running.delete(job);
      this.#show();
    }
  }

  cancel() {
    for (const job of this.#running) job.controller.abort();
  }

  dispose() {
    this.cancel();
    this.#item.dispose();
  }

  #report(job, step, progress) {
    const percentage = step.percentage ?? job.percentage;
    job.message = step.message ?? job.message;
    progress.report({ message: job.message, increment: percentage - job.percentage });
    job.percentage = percentage;
    this.#show();
  }

  #tell(error) {
    if (error.kind === 'cancelled') return;
    vscode.window.showErrorMessage(error.summary ?? error.message);
  }

  #show() {
    const job = [...this.#running].pop();
    const { session } = this.#daemon;
    const connected = session && `espalierd ${session.version}, ${session.kind}: ${session.address}`;
    if (job) {
      this.#item.text = `$(sync~spin) ${job.title}${job.percentage ? ` ${job.percentage}%` : ''}`;
      this.#item.tooltip = `${job.message}\nClick to cancel`.trim();
      this.#item.command = 'espalier.cancel';
    } else {
      this.#item.text = '$(type-hierarchy) Espalier';
      this.#item.tooltip = connected ?? 'no session with espalierd';
      this.#item.command = 'espalier.showLog';
    }
    if (job || session) this.#item.show();
    else this.#item.hide();
  }
}

module.exports = { Jobs };
