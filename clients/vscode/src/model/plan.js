// Compressions as data: the params of a request, and the answers of `recommend` and `compress` as rows of a table.
'use strict';

const format = require('./format');

/** What a compression can aim at. `decomposes`: only for decompositions, or only for pruning. */
const GOALS = [
  { id: 'ratio', label: 'Remove a share of the channels', decomposes: false, value: '0.5' },
  { id: 'ratio', label: "VBMF's ranks, raised or lowered by a ratio (-1 to 1)", decomposes: true, value: '0' },
  { id: 'macs', label: 'Leave a share of the multiply-adds', value: '0.5' },
  { id: 'parameters', label: 'Leave a share of the parameters', value: '0.5' },
  { id: 'size_bytes', label: "Leave a share of the file's bytes", value: '0.5' },
  { id: 'energy', label: "Keep a share of every layer's squared norm", decomposes: true, value: '0.9' },
];

// What stands for no method: pruning and ranks are the daemon's to choose, for a size.
const AUTOMATIC = 'automatic';

const decomposes = (method) => method.startsWith('FD_');

const goalsOf = (method) =>
  GOALS.filter(({ decomposes: only }) => only === undefined || (method !== AUTOMATIC && only === decomposes(method)));

/** The params of `recommend`. */
function request(model, method, goal, value, { shapes, options, dataset, reconstruct } = {}) {
  const params = { model };
  if (method !== AUTOMATIC) params.compression_method = method;
  if (goal === 'ratio') params.recommendation_ratio = value;
  else params.target = { [goal]: value };
  if (decomposes(method)) {
    if (goal === 'ratio') params.recommendation_method = 'VBMF';
  } else if (method !== AUTOMATIC) {
    params.recommendation_method = 'SLAMP';
  }
  if (shapes) params.input_shapes = shapes;
  if (options && Object.keys(options).length > 0) params.options = options;
  if (dataset) params.dataset_path = dataset;
  if (reconstruct) params.reconstruct = reconstruct;
  return params;
}

/** "PR_L2, ratio 0.5". */
function title({ compression_method: method = AUTOMATIC, recommendation_ratio: ratio, target }) {
  if (ratio !== undefined) return `${method}, ratio ${ratio}`;
  const [[name, share]] = Object.entries(target);
  return `${method}, ${share} of ${name}`;
}

/** `[{what, before, after, share}]` for the whole model. */
function totals(answer) {
  const { original, compressed } = answer.estimate ?? answer;
  const row = (what, member, show) => ({
    what,
    before: show(original[member]),
    after: show(compressed[member]),
    share: format.percent(compressed[member], original[member]),
  });
  return [
    row('parameters', 'parameters', format.count),
    row('MACs', 'macs', format.count),
    row('file', 'size_bytes', format.bytes),
  ];
}

/** `[{name, before, after, share}]` for each layer or group; `share` of channels is left, null for a decomposition. */
function rows(answer) {
  return (answer.available_layers ?? answer.layers).map(({ name, channels, values, use, ranks }) => {
    const before = channels.join(' → ');
    if (!use) return { name, before, after: 'stays', share: ranks ? null : 1 };
    if (ranks) return { name, before, after: `rank ${values.join(', ')}`, share: null };
    // The share that goes is a whole number of channels.
    return { name, before, after: String(Math.round(channels[0] * (1 - values[0]))), share: 1 - values[0] };
  });
}

/** One line: what became of the model. */
function summary(answer) {
  return totals(answer)
    .map(({ what, before, after }) => `${what} ${before} → ${after}`)
    .join(', ');
}

/** "1,3,224,224; 1,10" as input shapes, or null where it is none. */
function parseShapes(text) {
  const shapes = text.split(';').map((part) => part.trim().split(/\s*[,x]\s*/).map(Number));
  const good = shapes.every((shape) => shape.every((length) => Number.isInteger(length) && length > 0));
  return good ? shapes.map((shape) => ({ shape })) : null;
}

module.exports = { AUTOMATIC, GOALS, goalsOf, request, title, totals, rows, summary, parseShapes };
