'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const { Decoder, encode } = require('../src/protocol/framing');

const MESSAGES = [{ a: 1 }, { text: 'Blöcke → 24\n"' }, { long: 'x'.repeat(70000) }, null, { last: true }];
const STREAM = Buffer.concat(MESSAGES.map(encode));

test('lengths count bytes, not characters', () => {
  assert.equal(encode({ a: '→' }).toString(), 'Content-Length: 11\r\n\r\n{"a":"→"}');
});

test('messages survive every way of cutting the stream', () => {
  for (const size of [1, 2, 7, 19, 64, 4096, STREAM.length]) {
    const decoder = new Decoder();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...decoder.push(STREAM.subarray(at, at + size)));
    assert.deepEqual(found, MESSAGES, `in pieces of ${size}`);
  }
});

test('header names have any case, and other headers are skipped', () => {
  const decoder = new Decoder();
  const message = 'Content-Type: x; charset=utf-8\r\ncontent-LENGTH: 4\r\n\r\nnull';
  assert.deepEqual(decoder.push(Buffer.from(message)), [null]);
});

test('what is no message is refused', () => {
  assert.throws(() => new Decoder().push(Buffer.from('hello\r\n\r\n')), /without Content-Length/);
  assert.throws(() => new Decoder().push(Buffer.from('Content-Length: -4\r\n\r\nnull')), /without Content-Length/);
  assert.throws(() => new Decoder().push(Buffer.from('Content-Length: 4\r\n\r\nnope')), SyntaxError);
});
