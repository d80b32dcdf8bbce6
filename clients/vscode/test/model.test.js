// Trees, tables and pages, made of what the real daemon answers.
'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const format = require('../src/model/format');
const { html, render, outlinePage, planPage, errorPage } = require('../src/model/html');
const plan = require('../src/model/plan');
const { tree } = require('../src/model/tree');
const { Daemon } = require('../src/protocol/daemon');
const { RESNET, SERVER } = require('./support');

const daemon = new Daemon(() => ({ server: SERVER, socket: 'none' }));
test.after(() => daemon.close());

const inspect = () => daemon.request('inspect', { model: RESNET });

const everyNode = (nodes) => nodes.flatMap((node) => [node, ...everyNode(node.children ?? [])]);

test('numbers are scaled', () => {
  const shown = [0, 999, 1000, 2846160, 99949, 5.2e12].map(format.count);
  assert.deepEqual(shown, ['0', '999', '1.00k', '2.85M', '99.9k', '5.20T']);
  assert.equal(format.bytes(727009), '727 kB');
  assert.equal(format.shape(['batch', 3, null]), 'batch x 3 x ?');
  assert.equal(format.shape(null), '?');
});

test('the tree has layers, what goes with them, and why not', async () => {
  const roots = tree(await inspect());
  assert.deepEqual(roots.map((root) => [root.label, root.description]).slice(1), [['Layers', '14'], ['Groups', '8']]);
  assert.match(roots[0].description, /onnx · opset 17 · 727 kB · 179k parameters · 2\.85M MACs$/);
  const nodes = everyNode(roots);
  const stem = nodes.find((node) => node.id === 'layer:/stem/stem.0/Conv');
  assert.equal(stem.description, 'Conv 3x3  1 → 24  13.8k MACs');
  assert.deepEqual(
    stem.children.filter((node) => node.label === 'with').map((node) => node.target),
    ['layer:/blocks/blocks.0/conv2/Conv', 'layer:/blocks/blocks.1/conv2/Conv'],
  );
  const classifier = nodes.find((node) => node.id === 'layer:/classifier/Gemm');
  assert.equal(classifier.icon, 'lock');
  assert.match(classifier.tooltip, /model output, which must keep its shape/);
});

test('ids are unique, and every link leads somewhere', async () => {
  const nodes = everyNode(tree(await inspect()));
  const ids = new Set(nodes.map((node) => node.id));
  assert.equal(ids.size, nodes.length);
  const targets = nodes.filter((node) => node.target).map((node) => node.target);
  assert.ok(targets.length > 30);
  for (const target of targets) assert.ok(ids.has(target), target);
});

test('layers of the same name are told apart', async () => {
  const inspection = await inspect();
  const [stem, next] = inspection.layers;
  next.name = stem.name;
  const nodes = everyNode(tree(inspection));
  assert.equal(new Set(nodes.map((node) => node.id)).size, nodes.length);
  assert.equal((outlinePage(inspection).match(/ id="layer-1"/g) ?? []).length, 1);
});

test('a plan is the daemon\'s numbers', async () => {
  const request = plan.request(RESNET, 'PR_L2', 'ratio', 0.3);
  const answer = await daemon.request('recommend', request);
  assert.equal(plan.title(request), 'PR_L2, ratio 0.3');
  assert.deepEqual(plan.totals(answer)[0], { what: 'parameters', before: '179k', after: '96.3k', share: '54%' });
  const rows = plan.rows(answer);
  assert.deepEqual(rows[0], { name: '/blocks/blocks.1/Add', before: '24', after: 'stays', share: 1 });
  // What the plan promises is what comes out.
  const done = await daemon.request('compress', { ...request, dry_run: true });
  const slice = done.removed.find(({ parameter, axis }) => parameter === 'blocks.4.conv1.weight' && axis === 0);
  const row = rows.find(({ name }) => name === '/blocks/blocks.4/conv1/Conv');
  assert.equal(Number(row.before) - Number(row.after), slice.indices.length);
  assert.equal(plan.summary(done), 'parameters 179k → 96.3k, MACs 2.85M → 2.00M, file 727 kB → 397 kB');
});

test('every goal that is offered for a method is understood', async () => {
  for (const method of ['PR_L2', 'FD_TK', 'FD_SVD', plan.AUTOMATIC]) {
    for (const goal of plan.goalsOf(method)) {
      const request = plan.request(RESNET, method, goal.id, Number(goal.value));
      const answer = await daemon.request('recommend', request).catch((error) => error);
      assert.ok(answer.estimate || answer.kind === 'target.unreachable', `${method} ${goal.id}: ${answer.summary}`);
    }
  }
});

test('ranks of a decomposition are rows', async () => {
  const answer = await daemon.request('recommend', plan.request(RESNET, 'FD_TK', 'ratio', 0.3));
  const { name, before, after, share } = plan.rows(answer)[0];
  assert.deepEqual([name, before, after, share], ['/blocks/blocks.0/conv1/Conv', '24 → 24', 'rank 11, 13', null]);
});

test('shapes are read as people type them', () => {
  assert.deepEqual(plan.parseShapes('1,3,224,224'), [{ shape: [1, 3, 224, 224] }]);
  assert.deepEqual(plan.parseShapes(' 1 x 8; 2,4 '), [{ shape: [1, 8] }, { shape: [2, 4] }]);
  for (const text of ['', '1,,2', 'a', '0', '1.5', '1;']) assert.equal(plan.parseShapes(text), null, text);
});

test('pages escape foreign names and run nothing', async () => {
  const rendered = render(html`<b>${'<script>&"'}</b>${['a', html`<i></i>`]}${null}${0}`);
  assert.equal(rendered, '<b>&lt;script&gt;&amp;&quot;</b>a<i></i>0');
  const inspection = await inspect();
  inspection.layers[0].name = '"><img src=x onerror=alert(1)>';
  inspection.inputs[0].name = '<script>alert(1)</script>';
  const page = outlinePage(inspection);
  assert.ok(!/<img|<script/.test(page));
  assert.match(page, /default-src &#39;none&#39;/);
  assert.match(errorPage('<b>', { kind: '<i>', message: '<u>' }), /&lt;b&gt;.*&lt;i&gt;.*&lt;u&gt;/s);
});

test('every link of an outline leads to something on the page', async () => {
  const page = outlinePage(await inspect());
  const ids = new Set([...page.matchAll(/ id="([^"]*)"/g)].map((match) => match[1]));
  const links = [...page.matchAll(/href="#([^"]*)"/g)].map((match) => match[1]);
  assert.ok(links.length > 30);
  for (const link of links) assert.ok(ids.has(link), link);
  assert.equal((page.match(/<tr class="entry"/g) ?? []).length, 14 + 8);
});

test('a plan\'s page has its numbers and its command', async () => {
  const request = plan.request(RESNET, 'PR_L2', 'ratio', 0.3);
  const page = planPage(request, await daemon.request('recommend', request), 'command:espalier.compressPlan?%5B1%5D');
  assert.match(page, /digits_resnet\.onnx: PR_L2, ratio 0\.3/);
  assert.match(page, /<td>parameters<\/td>.*179k.*96\.3k.*54%/);
  assert.match(page, /href="command:espalier\.compressPlan\?%5B1%5D"/);
  assert.match(page, /Left alone.*\/classifier\/Gemm/s);
});
