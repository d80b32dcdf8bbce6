// What the tests share: the daemon, models, and a model that takes a while.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const REPOSITORY = path.resolve(__dirname, '../../..');
const MODELS = path.join(REPOSITORY, 'clients/python/examples/models');
const SERVER = process.env.ESPALIER_SERVER || path.join(REPOSITORY, '.build/release/espalierd');

const RESNET = path.join(MODELS, 'digits_resnet.onnx');

/** A directory that goes with the test; sockets of the test's own daemons are in it, too. */
function scratch(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'espalier-test-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function until(condition, what) {
  const deadline = Date.now() + 20000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// Protocol buffers, as far as a chain of convolutions needs them.
const varint = (number) => {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  return Buffer.from([...bytes, number]);
};
const bytes = (field, content) => {
  const body = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([varint(field * 8 + 2), varint(body.length), body]);
};
const integer = (field, number) => Buffer.concat([varint(field * 8), varint(number)]);

/** An ONNX file of `layers` convolutions of `width` channels, which takes seconds to decompose. */
function writeLargeModel(file, seed = 0, layers = 12, width = 512) {
  const value = (name) => {
    const dimensions = [1, width, 4, 4].map((length) => bytes(1, integer(1, length)));
    const tensor = Buffer.concat([integer(1, 1), bytes(2, Buffer.concat(dimensions))]);
    return Buffer.concat([bytes(1, name), bytes(2, bytes(1, tensor))]);
  };
  const parts = [];
  for (let layer = 0; layer < layers; layer += 1) {
    const pads = Buffer.concat([bytes(1, 'pads'), ...[1, 1, 1, 1].map((pad) => integer(8, pad)), integer(20, 7)]);
    const node = [bytes(1, `x${layer}`), bytes(1, `w${layer}`), bytes(2, `x${layer + 1}`), bytes(3, `conv${layer}`)];
    parts.push(bytes(1, Buffer.concat([...node, bytes(4, 'Conv'), bytes(5, pads)])));
  }
  parts.push(bytes(2, 'large'));
  const weights = Float32Array.from({ length: width * width * 9 }, (_, index) => Math.sin((index + seed) * 12.9898));
  for (let layer = 0; layer < layers; layer += 1) {
    const tensor = [...[width, width, 3, 3].map((length) => integer(1, length)), integer(2, 1), bytes(8, `w${layer}`)];
    parts.push(bytes(5, Buffer.concat([...tensor, bytes(9, Buffer.from(weights.buffer))])));
  }
  parts.push(bytes(11, value('x0')), bytes(12, value(`x${layers}`)));
  fs.writeFileSync(file, Buffer.concat([integer(1, 8), bytes(8, integer(2, 17)), bytes(7, Buffer.concat(parts))]));
  return file;
}

module.exports = { MODELS, RESNET, SERVER, scratch, until, writeLargeModel };
