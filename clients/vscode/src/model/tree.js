// The structure of a model as a tree, made of the answer to `inspect`. It knows neither the editor nor the daemon.
//
// A node is {id, label, description?, tooltip?, icon?, children?, open?, target?}; `icon` names one of the editor's own,
// and a node that speaks of a layer or a group leads there with `target`, the id of another node.
'use strict';

const format = require('./format');

const layerId = (name) => `layer:${name}`;
const groupId = (id) => `group:${id}`;

/** "Conv 3x3 /4": the operator, its kernel, and into how many groups it splits its channels. */
function operator({ op, kernel, groups }) {
  return [op, kernel?.join('x'), groups > 1 ? `/${groups}` : undefined].filter(Boolean).join(' ');
}

/** Ranks that a decomposition may give a layer, and up to which it pays. */
function ranks({ method, full_rank, break_even_rank }) {
  const cheaper = break_even_rank ? `cheaper up to ${break_even_rank.join(', ')}` : 'never cheaper';
  return `${method} up to ${full_rank.join(', ')}, ${cheaper}`;
}

function layerNode(layer, id) {
  const pruned = layer.group !== null;
  const explanation = layer.explanation ?? layer.reason ?? '';
  const detail = (label, description, more) => ({ id: `${id}/${label}/${description}`, label, description, ...more });
  return {
    id,
    label: layer.name,
    description: `${operator(layer)}  ${layer.channels.join(' → ')}  ${format.count(layer.macs)} MACs`,
    tooltip: explanation,
    icon: pruned ? 'symbol-array' : 'lock',
    children: [
      detail(pruned ? `group ${layer.group}` : 'fixed', explanation, pruned ? { target: groupId(layer.group) } : {}),
      ...(layer.coupled_with ?? []).map((name) => detail('with', name, { icon: 'link', target: layerId(name) })),
      detail('weight', layer.parameter ?? ''),
      detail('parameters', format.count(layer.parameters)),
      detail('methods', layer.methods.join(' ') || 'none'),
      ...(layer.decomposition ?? []).map((possible) => detail('ranks', ranks(possible))),
    ],
  };
}

function groupNode(group) {
  const id = groupId(group.id);
  const { balance } = group;
  return {
    id,
    label: `${group.id}  ${group.name}`,
    description: [
      format.plural(group.size, 'unit'),
      group.channels !== group.size && `${group.channels} channels`,
      balance && `${balance.blocks} blocks of ${balance.width}`,
    ]
      .filter(Boolean)
      .join(', '),
    tooltip: group.reason ?? `${format.plural(group.layers.length, 'layer')} whose output channels go together`,
    icon: group.prunable ? 'symbol-structure' : 'lock',
    children: [
      ...(balance?.linked_with ?? []).map((other) => ({
        id: `${id}/linked/${other}`,
        label: `loses as many per block as group ${other}`,
        icon: 'link',
        target: groupId(other),
      })),
      ...group.layers.map((name, index) => ({
        id: `${id}/${index}`,
        label: name,
        icon: 'symbol-array',
        target: layerId(name),
      })),
    ],
  };
}

function portNode(word, { name, dtype, shape }) {
  return { id: `${word}:${name}`, label: name, description: `${dtype ?? 'unknown type'}, ${format.shape(shape)}` };
}

/** What there is to say of the whole model, in one line. */
function headline({ model, parameters, macs }) {
  const opset = model.opset ? `opset ${model.opset}` : undefined;
  return [
    model.framework,
    model.format,
    opset,
    format.bytes(model.size_bytes),
    `${format.count(parameters)} parameters`,
    `${format.count(macs)} MACs`,
  ]
    .filter(Boolean)
    .join(' · ');
}

/** The roots of the tree. */
function tree(inspection) {
  const { inputs, outputs, layers, groups } = inspection;
  const name = inspection.model.path.split('/').pop();
  // Links lead to the first of equal names.
  const used = new Set();
  const layerNodes = layers.map((layer, index) => {
    const id = layerId(layer.name);
    const own = used.has(id) ? `${id}#${index}` : id;
    used.add(id);
    return layerNode(layer, own);
  });
  return [
    {
      id: 'model',
      label: name,
      description: headline(inspection),
      icon: 'file-binary',
      children: [
        ...inputs.map((port) => ({ ...portNode('in', port), icon: 'arrow-right' })),
        ...outputs.map((port) => ({ ...portNode('out', port), icon: 'arrow-left' })),
      ],
    },
    { id: 'layers', label: 'Layers', description: String(layers.length), open: true, children: layerNodes },
    { id: 'groups', label: 'Groups', description: String(groups.length), children: groups.map(groupNode) },
  ];
}

module.exports = { tree, headline, operator, ranks, layerId, groupId };
