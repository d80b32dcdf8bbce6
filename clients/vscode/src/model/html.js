// Pages: the outline of a model, a plan, an error. Pure text without scripts; names in model files are foreign, so that
// everything goes through `html`, which escapes what it is given unless it was made by itself.
'use strict';

const format = require('./format');
const plan = require('./plan');
const { headline, operator, ranks } = require('./tree');

class Markup {
  constructor(text) {
    this.text = text;
  }
}

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function render(value) {
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(render).join('');
  if (value === null || value === undefined || value === false) return '';
  return String(value).replace(/[&<>"']/g, (character) => ESCAPES[character]);
}

function html(strings, ...values) {
  return new Markup(strings.reduce((text, part, index) => text + render(values[index - 1]) + part));
}

const STYLE = new Markup(`
  body { font: var(--vscode-font-size, 13px) var(--vscode-font-family, sans-serif);
         padding: 0 1.5em 3em; max-width: 64em; color: var(--vscode-foreground, #333); background: var(--vscode-editor-background, #fff); }
  h1 { font-size: 1.4em; font-weight: 600; margin-bottom: 0.2em; }
  h2 { font-size: 1.1em; font-weight: 600; margin: 1.8em 0 0.4em; }
  table { border-collapse: collapse; width: 100%; }
  th { text-align: left; font-weight: normal; }
  th, .dim { color: var(--vscode-descriptionForeground, #777); }
  td, th { padding: 0.15em 1.2em 0.15em 0; vertical-align: top; }
  .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  tr.entry > td { border-top: 1px solid var(--vscode-widget-border, #ddd); }
  tr:target > td { background: var(--vscode-editor-findMatchHighlightBackground, #fd8); }
  code { font-family: var(--vscode-editor-font-family, monospace); overflow-wrap: anywhere; }
  a { color: var(--vscode-textLink-foreground, #06c); text-decoration: none; }
  .fixed { color: var(--vscode-editorWarning-foreground, #b60); }
  .error { color: var(--vscode-errorForeground, #c00); }
  summary { cursor: pointer; }
  .button { display: inline-block; margin-top: 1.4em; padding: 0.4em 1.2em; border-radius: 2px;
            color: var(--vscode-button-foreground, #fff); background: var(--vscode-button-background, #06c); }
  .bar { display: block; width: 12em; height: 0.8em; margin-top: 0.25em;
         background: var(--vscode-widget-border, #ddd); }
  .bar span { display: block; height: 100%; background: var(--vscode-charts-blue, #38c); }
  table.narrow { width: auto; }
  .short { white-space: nowrap; }
`);

const text = (value) => html`<td>${value}</td>`;
const number = (value) => html`<td class="number">${value}</td>`;
const name = (value) => html`<td><code>${value}</code></td>`;

function page(title, body) {
  const policy = "default-src 'none'; style-src 'unsafe-inline'";
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`.text;
}

// Anchors are numbers: names may hold anything.
class Anchors {
  constructor({ layers }) {
    // Links lead to the first of equal names.
    this.layers = new Map(layers.map(({ name }, index) => [name, `layer-${index}`]).reverse());
  }

  layer(name) {
    const anchor = this.layers.get(name);
    return anchor ? html`<a href="#${anchor}"><code>${name}</code></a>` : html`<code>${name}</code>`;
  }

  group(id) {
    return html`<a href="#group-${id}">group ${id}</a>`;
  }
}

function layerRow(layer, index, anchors) {
  const pruned = layer.group !== null;
  const coupled = layer.coupled_with ?? [];
  return html`<tr class="entry" id="layer-${index}">
<td><details><summary><code>${layer.name}</code></summary>
<p>${layer.explanation ?? layer.reason}</p>
<p class="dim">weight <code>${layer.parameter}</code></p>
<p class="dim">methods ${layer.methods.join(' ') || 'none'}</p>
${(layer.decomposition ?? []).map((possible) => html`<p class="dim">${ranks(possible)}</p>`)}
${coupled.length > 0 && html`<p>with ${coupled.map((other) => html`${anchors.layer(other)} `)}</p>`}
</details></td>
<td class="short">${operator(layer)}</td>
${number(layer.channels.join(' → '))}
${number(format.count(layer.parameters))}
${number(format.count(layer.macs))}
<td class="short">${pruned ? anchors.group(layer.group) : html`<span class="fixed">fixed</span>`}</td>
</tr>
`;
}

function groupRow(group, anchors) {
  const { balance } = group;
  const linked = balance?.linked_with ?? [];
  return html`<tr class="entry" id="group-${group.id}">
<td class="short">group ${group.id}</td>
${number(group.size)}
<td>${!group.prunable && html`<p class="fixed">${group.reason}</p>`}
${group.layers.map((layer) => html`${anchors.layer(layer)}<br>`)}
${balance && html`<span class="dim">${balance.blocks} blocks of ${balance.width}, which lose equally many</span> `}
${linked.map((other) => html`<span class="dim">as many per block as</span> ${anchors.group(other)} `)}</td>
</tr>
`;
}

/** The outline of a model: the answer to `inspect`. */
function outlinePage(inspection) {
  const anchors = new Anchors(inspection);
  const title = inspection.model.path.split('/').pop();
  const port = (word) => (value) => html`<tr><td class="dim">${word}</td>
${name(value.name)}${text(value.dtype ?? 'unknown type')}${text(format.shape(value.shape))}</tr>
`;
  const assumed = inspection.assumed_lengths ?? [];
  return page(
    title,
    html`<h1>${title}</h1>
<p class="dim">${headline(inspection)}</p>
<table class="narrow">
${inspection.inputs.map(port('input'))}${inspection.outputs.map(port('output'))}</table>
${assumed.map(({ symbol, length }) => html`<p class="dim">${symbol} is counted as ${length}</p>`)}
<h2>Layers</h2>
<table>
<tr><th>name</th><th>operator</th><th class="number">channels</th><th class="number">parameters</th>
<th class="number">MACs</th><th>output</th></tr>
${inspection.layers.map((layer, index) => layerRow(layer, index, anchors))}</table>
<h2>Groups: channels that go together</h2>
<table>
<tr><th>group</th><th class="number">units</th><th>layers</th></tr>
${inspection.groups.map((group) => groupRow(group, anchors))}</table>`,
  );
}

/** A plan: the answer to `recommend`, asked with `request`; `command` is the link that carries it out. */
function planPage(request, answer, command) {
  const heading = `${request.model.split('/').pop()}: ${plan.title(request)}`;
  const total = (row) => html`<tr>${text(row.what)}${number(row.before)}${number(row.after)}${number(row.share)}</tr>
`;
  const bar = (share) => html`<span class="bar"><span style="width: ${Math.round(share * 100)}%"></span></span>`;
  const layer = (row) => html`<tr class="entry">${name(row.name)}${number(row.before)}${number(row.after)}
${text(row.share !== null && bar(row.share))}</tr>
`;
  const left = (entry) => html`<tr class="entry">${name(entry.name)}${text(entry.reason)}</tr>
`;
  return page(
    heading,
    html`<h1>${heading}</h1>
<table class="narrow">
<tr><th></th><th class="number">before</th><th class="number">after</th><th class="number">left</th></tr>
${plan.totals(answer).map(total)}</table>
${command && html`<a class="button" href="${command}">Compress as planned...</a>`}
<h2>Layers</h2>
<table>
<tr><th>name</th><th class="number">channels</th><th class="number">after</th><th>left</th></tr>
${plan.rows(answer).map(layer)}</table>
${answer.skipped.length > 0 && html`<h2>Left alone</h2>
<table>
${answer.skipped.map(left)}</table>`}`,
  );
}

/** `hint` is what to do about it, if that is known. */
function errorPage(title, error, hint) {
  const told = html`<p class="error">${error.kind}</p><p>${error.message}</p><p class="dim">${hint}</p>`;
  return page(title, html`<h1>${title}</h1>${told}`);
}

const waitingPage = (title) => page(title, html`<h1>${title}</h1><p class="dim">Reading ...</p>`);

module.exports = { html, render, outlinePage, planPage, errorPage, waitingPage };
