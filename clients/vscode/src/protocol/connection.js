// JSON-RPC 2.0 over two streams: requests with their answers, progress and cancellation.
'use strict';

const { encode, Decoder } = require('./framing');

const REQUEST_CANCELLED = -32800;
const METHOD_NOT_FOUND = -32601;

/** An error of the daemon, or about it: `kind` is the protocol's, `server.notFound`, `server.stopped`, `cancelled`. */
class EspalierError extends Error {
  constructor(kind, message, { code, data } = {}) {
    super(message);
    this.name = 'EspalierError';
    this.kind = kind;
    this.code = code;
    this.data = data ?? {};
  }

  /** One line for people. */
  get summary() {
    return `${this.kind}: ${this.message}`;
  }

  static fromWire({ code, message, data }) {
    if (code === REQUEST_CANCELLED) return new EspalierError('cancelled', 'cancelled', { code, data });
    const kind = data?.kind ?? (data?.path !== undefined ? `invalid ${data.path}` : `error ${code}`);
    return new EspalierError(kind, message, { code, data });
  }
}

class Connection {
  #output;
  #decoder = new Decoder();
  #calls = new Map();
  #latest = 0;
  #ended = null;
  #onEnd;
  #onLog;

  /** `onEnd` gets the reason, once; `onLog` what the daemon tells people. */
  constructor(input, output, { onEnd = () => {}, onLog = () => {} } = {}) {
    this.#output = output;
    this.#onEnd = onEnd;
    this.#onLog = onLog;
    input.on('data', (chunk) => this.#receive(chunk));
    input.on('end', () => this.end('espalierd ended the connection'));
    for (const stream of new Set([input, output])) {
      stream.on('error', (error) => this.end(`the connection to espalierd broke: ${error.message}`));
    }
  }

  get isOpen() {
    return this.#ended === null;
  }

  /**
   * Asks. `onProgress` gets `{kind, title, message, percentage}`; `signal` (AbortSignal) cancels, upon which the request
   * is still answered: with an error of kind `cancelled`, or with what was just finished.
   */
  request(method, params, { onProgress, signal } = {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(EspalierError.fromWire({ code: REQUEST_CANCELLED }));
    const id = ++this.#latest;
    const cancel = () => this.notify('$/cancelRequest', { id });
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onProgress });
      signal?.addEventListener('abort', cancel, { once: true });
      this.#send({ id, method, params: onProgress ? { ...params, workDoneToken: id } : params });
    }).finally(() => signal?.removeEventListener('abort', cancel));
  }

  notify(method, params) {
    if (this.isOpen) this.#send({ method, params });
  }

  /** Gives up on the stream: what was asked fails. */
  end(reason) {
    if (this.#ended) return;
    this.#ended = new EspalierError('server.stopped', reason);
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(this.#ended);
    this.#onEnd(reason);
  }

  #send(message) {
    this.#output.write(encode({ jsonrpc: '2.0', ...message }));
  }

  #receive(chunk) {
    if (this.#ended) return;
    try {
      for (const message of this.#decoder.push(chunk)) this.#dispatch(message);
    } catch (error) {
      this.end(`espalierd sent what cannot be understood: ${error.message}`);
    }
  }

  #dispatch(message) {
    const { id, method, params } = message;
    if (method === '$/progress') {
      this.#calls.get(params.token)?.onProgress?.(params.value);
    } else if (method === 'window/logMessage') {
      this.#onLog(params.message);
    } else if (method !== undefined) {
      if (id !== undefined) this.#send({ id, error: { code: METHOD_NOT_FOUND, message: `no method ${method} here` } });
    } else if (id === null) {
      this.end(`espalierd could not read a message: ${message.error?.message}`);
    } else {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (message.error) call?.reject(EspalierError.fromWire(message.error));
      else call?.resolve(message.result);
    }
  }
}

module.exports = { Connection, EspalierError };
