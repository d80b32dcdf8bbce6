// The protocol's part against the real daemon.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { PassThrough } = require('node:stream');
const test = require('node:test');
const { Connection } = require('../src/protocol/connection');
const { Daemon, findServer } = require('../src/protocol/daemon');
const { MODELS, RESNET, SERVER, scratch, until, writeLargeModel } = require('./support');

function open(t, settings = {}, log) {
  const daemon = new Daemon(() => ({ server: SERVER, socket: 'none', ...settings }), { log });
  t.after(() => daemon.close());
  return daemon;
}

const COMPRESS = { compression_method: 'PR_GM', recommendation_method: 'SLAMP', recommendation_ratio: 0.5 };

test('a model is inspected by a daemon of our own', async (t) => {
  const daemon = open(t);
  const inspection = await daemon.request('inspect', { model: RESNET });
  assert.equal(inspection.layers.length, 14);
  assert.equal(inspection.groups.length, 8);
  assert.equal(daemon.session.kind, 'private');
  assert.ok(daemon.session.capabilities.compression_methods.includes('PR_L2'));
});

test('errors carry kind, message and data', async (t) => {
  const daemon = open(t);
  await assert.rejects(daemon.request('inspect', { model: '/nowhere.onnx' }), (error) => {
    assert.deepEqual([error.kind, error.code, error.data.path], ['model.notFound', -32803, '/nowhere.onnx']);
    assert.match(error.summary, /^model\.notFound: ./);
    return true;
  });
  await assert.rejects(daemon.request('inspect', { model: 'relative.onnx' }), { kind: 'invalid /model' });
  await assert.rejects(daemon.request('optimize'), { code: -32601 });
  const shapeless = daemon.request('inspect', { model: path.join(MODELS, 'digits_resnet.pt') });
  await assert.rejects(shapeless, (error) => error.kind === 'model.inputShapes' && error.data.inputs[0] === 'x');
});

test('progress comes before the answer, and a cancelled request leaves nothing', async (t) => {
  const folder = scratch(t);
  const model = writeLargeModel(path.join(folder, 'large.onnx'));
  const daemon = open(t);
  const steps = [];
  const output = path.join(folder, 'smaller.onnx');
  const params = { ...COMPRESS, model, output_path: output };
  await daemon.request('compress', params, { onProgress: (step) => steps.push(step) });
  assert.deepEqual([steps[0].kind, steps.at(-1).kind], ['begin', 'end']);
  assert.ok(fs.existsSync(output));

  fs.rmSync(output);
  await daemon.request('release');
  const controller = new AbortController();
  const { signal } = controller;
  const cancelled = daemon.request('compress', params, { signal, onProgress: () => controller.abort() });
  await assert.rejects(cancelled, { kind: 'cancelled', code: -32800 });
  assert.deepEqual(fs.readdirSync(folder), ['large.onnx']);
  // Cancelled before it was asked, it is not asked at all.
  await assert.rejects(daemon.request('compress', params, { signal: AbortSignal.abort() }), { kind: 'cancelled' });
  assert.equal(await daemon.request('ping'), null);
});

test('a daemon that dies fails what was asked, and is replaced', async (t) => {
  const folder = scratch(t);
  const model = writeLargeModel(path.join(folder, 'large.onnx'));
  const lines = [];
  const daemon = open(t, {}, (line) => lines.push(line));
  await daemon.request('ping');
  const [child] = fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter((pid) => pid)
    .filter((pid) => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(SERVER));
  const running = daemon.request('compress', { ...COMPRESS, model, output_path: path.join(folder, 'never.onnx') });
  process.kill(Number(child), 'SIGKILL');
  await assert.rejects(running, { kind: 'server.stopped' });
  assert.equal(daemon.session, null);
  assert.equal((await daemon.request('inspect', { model: RESNET })).cached, false);
  assert.match(lines.join('\n'), /connected to a private daemon/);
});

test('closing ends a daemon of our own', async (t) => {
  const daemon = open(t);
  await daemon.request('ping');
  await daemon.close();
  assert.equal(daemon.session, null);
  await daemon.close(); // again does no harm
});

test('a shared daemon is used where one listens, left running, and replaced when it is gone', async (t) => {
  const folder = scratch(t);
  process.env.XDG_RUNTIME_DIR = folder; // so that the default socket is here
  t.after(() => delete process.env.XDG_RUNTIME_DIR);
  const shared = spawn(SERVER, ['--listen'], { stdio: 'ignore' });
  t.after(() => shared.kill('SIGKILL'));
  const address = execFileSync(SERVER, ['--print-address'], { encoding: 'utf8' }).trim();
  const listens = () =>
    new Promise((resolve) => {
      const probe = net.connect(address, () => resolve(true)).on('error', () => resolve(false));
      probe.on('connect', () => probe.destroy());
    });
  await until(listens, 'the daemon');

  const [one, other] = [open(t, { socket: '' }), open(t, { socket: '' })];
  assert.equal((await one.request('inspect', { model: RESNET })).cached, false);
  assert.equal((await other.request('inspect', { model: RESNET })).cached, true);
  assert.deepEqual([one.session.kind, other.session.kind], ['shared', 'shared']);
  await one.close();
  assert.equal(shared.exitCode, null);
  // By its path it is found without a program.
  const third = open(t, { socket: address, server: '/nowhere/espalierd' });
  assert.equal((await third.request('models')).models.length, 1);
  assert.equal(third.session.kind, 'shared');

  const gone = new Promise((resolve) => shared.once('exit', resolve));
  shared.kill('SIGTERM');
  await gone;
  await until(() => other.session === null, 'the end of the session');
  await other.request('ping');
  assert.equal(other.session.kind, 'private');
});

test('the program is found by setting, environment and PATH, in this order', (t) => {
  const folder = scratch(t);
  const onPath = path.join(folder, 'espalierd');
  fs.copyFileSync('/bin/true', onPath);
  const PATH = `relative:/nowhere:${folder}`;
  assert.equal(findServer('', { PATH }), onPath);
  assert.equal(findServer(undefined, { PATH, ESPALIER_SERVER: '/bin/true' }), '/bin/true');
  assert.equal(findServer('/bin/false', { PATH, ESPALIER_SERVER: '/bin/true' }), '/bin/false');
  assert.throws(() => findServer('', { PATH: '/nowhere' }), { kind: 'server.notFound' });
  assert.throws(() => findServer(folder, {}), { kind: 'server.notFound' });
});

test('a program that is no daemon fails what was asked', async (t) => {
  await assert.rejects(open(t, { server: '/bin/false' }).request('ping'), { kind: 'server.stopped' });
  await assert.rejects(open(t, { server: '/bin/false', socket: '' }).request('ping'), { kind: 'server.notFound' });
  await assert.rejects(open(t, { server: '/nowhere/espalierd' }).request('ping'), { kind: 'server.notFound' });
  // What speaks another language is not waited for.
  const folder = scratch(t);
  const chatty = path.join(folder, 'chatty');
  fs.writeFileSync(chatty, '#!/bin/sh\nprintf "hello\\r\\n\\r\\n"\nsleep 1\n', { mode: 0o755 });
  await assert.rejects(open(t, { server: chatty }).request('ping'), /cannot be understood/);
});

test('what the server asks is answered, and what it cannot read ends the waiting', async () => {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const connection = new Connection(input, output);
  const waiting = connection.request('ping');
  const send = (body) => input.write(`Content-Length: ${body.length}\r\n\r\n${body}`);
  send('{"jsonrpc":"2.0","id":"a","method":"window/showDocument"}');
  send('{"jsonrpc":"2.0","method":"telemetry/event"}');
  send('{"jsonrpc":"2.0","id":99,"result":null}');
  send('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}');
  await assert.rejects(waiting, { kind: 'server.stopped', message: /not JSON/ });
  assert.match(output.read().toString(), /"id":"a","error":\{"code":-32601/);
  await assert.rejects(connection.request('ping'), { kind: 'server.stopped' });
});
