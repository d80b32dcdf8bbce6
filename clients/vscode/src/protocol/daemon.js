// The session with espalierd: a shared daemon where one listens, one of our own where none does. It is opened by the
// first request, and again by the next one after it ended.
'use strict';

const { execFile, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const { Connection, EspalierError } = require('./connection');

const PROTOCOL_VERSION = '1.0';
const EXIT_MILLISECONDS = 5000;

function isExecutable(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The program: as set, else of ESPALIER_SERVER, else on PATH. */
function findServer(setting, environment = process.env) {
  const named = setting || environment.ESPALIER_SERVER;
  if (named) {
    const file = named.replace(/^~(?=\/)/, os.homedir());
    if (isExecutable(file)) return file;
    throw new EspalierError('server.notFound', `${named} is no program that can be run`);
  }
  const found = (environment.PATH ?? '')
    .split(path.delimiter)
    .filter(path.isAbsolute)
    .map((folder) => path.join(folder, 'espalierd'))
    .find(isExecutable);
  if (found) return found;
  throw new EspalierError(
    'server.notFound',
    "espalierd was found neither by the setting 'espalier.server', nor by ESPALIER_SERVER, nor on PATH",
  );
}

/** A connected socket, or null where nobody listens or the socket is another user's, who could answer anything. */
function dial(address) {
  try {
    if (fs.statSync(address).uid !== process.getuid()) return Promise.resolve(null);
  } catch {
    return Promise.resolve(null);
  }
  return new Promise((resolve) => {
    const socket = net.connect(address);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(null));
  });
}

class Daemon {
  #settings;
  #log;
  // The connection, or the promise of one; it may have ended since.
  #opening = null;

  /** `settings()` gives `{server, socket, threads}`, each of which may be empty; `log` gets lines. */
  constructor(settings = () => ({}), { log = () => {}, clientInfo = { name: 'node' }, onChange = () => {} } = {}) {
    this.#settings = settings;
    this.#log = log;
    this.clientInfo = clientInfo;
    this.onChange = onChange;
    /** The open session, or null: `{kind: 'shared' | 'private', address, version, capabilities}`. */
    this.session = null;
  }

  /** As `Connection.request`, opening a session if there is none. */
  async request(method, params, options) {
    const connection = await this.#connected();
    return connection.request(method, params, options);
  }

  /** Ends the session, and with it a daemon of our own; the next request opens another. */
  async close() {
    const closing = this.#opening;
    this.session = this.#opening = null; // so that what is asked from here on is asked of another
    const connection = await closing?.catch(() => null);
    if (!connection?.isOpen) return;
    const timeout = AbortSignal.timeout(EXIT_MILLISECONDS);
    const timedOut = new Promise((resolve) => timeout.addEventListener('abort', resolve, { once: true }));
    await Promise.race([connection.request('shutdown').catch(() => {}), timedOut]);
    connection.notify('exit');
    connection.end('the session was closed');
  }

  async #connected() {
    const before = this.#opening;
    const connection = await before?.catch(() => null);
    if (connection?.isOpen) return connection;
    // The first who finds it closed opens another, for all.
    if (this.#opening === before) this.#opening = this.#open();
    return this.#opening;
  }

  async #open() {
    const { server, socket, threads } = this.#settings();
    const options = threads ? ['--threads', String(threads)] : [];
    const ownSocket = socket && socket !== 'none' ? socket.replace(/^~(?=\/)/, os.homedir()) : null;
    // A shared daemon that is named can be used without the program.
    let stream = ownSocket ? await dial(ownSocket) : null;
    let address = ownSocket;
    if (!stream) {
      const program = findServer(server);
      if (!socket) {
        address = await this.#defaultAddress(program, options);
        stream = await dial(address);
      }
      if (!stream) return this.#start(program, options);
    }
    const connection = this.#connect(stream, stream, 'shared', address, () => stream.destroy());
    return this.#greet(connection, null);
  }

  async #defaultAddress(program, options) {
    try {
      return (await promisify(execFile)(program, [...options, '--print-address'])).stdout.trimEnd();
    } catch (error) {
      throw new EspalierError('server.notFound', `${program} cannot be asked for its address: ${error.message}`);
    }
  }

  #start(program, options) {
    const child = spawn(program, [...options, '--stdio'], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stderr.setEncoding('utf8').on('data', (text) => this.#log(text.trimEnd()));
    const connection = this.#connect(child.stdout, child.stdin, 'private', program, () => {
      child.stdin.end();
      setTimeout(() => child.kill('SIGKILL'), EXIT_MILLISECONDS).unref();
    });
    child.on('error', (error) => connection.end(`${program} cannot be started: ${error.message}`));
    child.on('exit', (code, signal) => connection.end(`espalierd ended (${signal ?? `status ${code}`})`));
    return this.#greet(connection, process.pid);
  }

  #connect(input, output, kind, address, release) {
    const connection = new Connection(input, output, {
      onLog: this.#log,
      onEnd: (reason) => {
        this.#log(reason);
        release();
        if (this.session?.connection === connection) this.session = null;
        this.onChange();
      },
    });
    return Object.assign(connection, { kind, address });
  }

  async #greet(connection, processId) {
    let greeting;
    try {
      greeting = await connection.request('initialize', {
        processId,
        clientInfo: this.clientInfo,
        capabilities: {},
        protocolVersion: PROTOCOL_VERSION,
      });
    } catch (error) {
      connection.end(error.message);
      throw error;
    }
    connection.notify('initialized', {});
    const { serverInfo, capabilities } = greeting;
    const { kind, address } = connection;
    this.session = { connection, kind, address, version: serverInfo.version, capabilities };
    this.#log(`connected to a ${kind} daemon, version ${serverInfo.version}: ${address}`);
    this.onChange();
    return connection;
  }
}

module.exports = { Daemon, findServer };
