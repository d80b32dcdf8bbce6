"""Makes docs/images/coupling-*.svg: which slices of which weights go together, in a residual and in an attention block.

`BLOCKS` is what the pictures show; clients/python/tests/test_figures.py builds the same blocks and asks the daemon
whether it removes just that. Standard library alone: python3 docs/images/coupling.py
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

CELL = 17


@dataclass(frozen=True)
class Weight:
    """A matrix [outputs, inputs], the colours of its labels along both, and what goes."""

    name: str
    outputs: int
    inputs: int
    row_color: str
    column_color: str
    rows: tuple = ()
    columns: tuple = ()
    # Rows or columns after which a head ends.
    row_blocks: int = 0
    column_blocks: int = 0


RESIDUAL = (
    Weight("stem", 4, 2, "stream", "fixed", rows=(2,)),
    Weight("conv1", 4, 4, "inner", "stream", columns=(2,)),
    Weight("conv2", 4, 4, "stream", "inner", rows=(2,)),
    Weight("head", 3, 4, "fixed", "stream", columns=(2,)),
)
ATTENTION = (
    Weight("query", 6, 4, "scores", "stream", rows=(1, 5), row_blocks=3),
    Weight("key", 6, 4, "scores", "stream", rows=(1, 5), row_blocks=3),
    Weight("value", 6, 4, "values", "stream", row_blocks=3),
    Weight("output", 4, 6, "stream", "values", column_blocks=3),
)
BLOCKS = {"residual": RESIDUAL, "attention": ATTENTION}

STYLE = """
  :root { --paper: #ffffff; --edge: #d0d7de; --ink: #1f2328; --quiet: #59636e; --empty: #f6f8fa; --line: #8c959f;
    --stream: #4285c9; --inner: #d98a1c; --scores: #d98a1c; --values: #3f9a5c; --fixed: #a7afb8; --gone: #cf222e }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #161b22; --edge: #3d444d; --ink: #e6edf3; --quiet: #9da7b3; --empty: #21262d; --line: #6e7681;
      --stream: #5fa3e6; --inner: #e3a04a; --scores: #e3a04a; --values: #5dbb7b; --fixed: #6e7681; --gone: #ff7b72 }
  }
  text { font: 14px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink) }
  .small { font-size: 12.5px; fill: var(--quiet) }
  .title { font-weight: 600 }
  .mid { text-anchor: middle }
  .cell { fill: var(--empty); stroke: var(--edge) }
  .flow { stroke: var(--line); stroke-width: 1.6; fill: none }
  .head { fill: var(--line) }
  .node { fill: var(--paper); stroke: var(--line); stroke-width: 1.4 }
  .gone { fill: var(--gone); fill-opacity: .22; stroke: var(--gone); stroke-width: 1.6 }
"""


class Drawing:
    def __init__(self, width: int, height: int, told: str):
        self.size, self.told, self.parts = (width, height), told, []

    def text(self, x, y, words, kind="", color=None):
        style = f' style="fill: var(--{color})"' if color else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}"{style}>{words}</text>')

    def rect(self, x, y, width, height, kind="", color=None, radius=0):
        style = f' style="fill: var(--{color})"' if color else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" class="{kind}"{style}/>'
        )

    def arrow(self, *points, tip=True):
        path = " ".join(f"{'M' if k == 0 else 'L'}{x:g} {y:g}" for k, (x, y) in enumerate(points))
        end = ' marker-end="url(#tip)"' if tip else ""
        self.parts.append(f'<path d="{path}" class="flow"{end}/>')

    def node(self, x, y, words, width=62):
        self.rect(x - width / 2, y - 15, width, 30, "node", radius=15)
        self.text(x, y + 5, words, "mid")

    def weight(self, x, y, weight: Weight):
        """At its top left cell; row labels to the left, column labels above."""
        for r in range(weight.outputs):
            top = y + r * CELL + block_gap(r, weight.row_blocks)
            self.rect(x - 12, top + 1, 7, CELL - 2, color=weight.row_color, radius=2)
            for c in range(weight.inputs):
                self.rect(x + c * CELL + block_gap(c, weight.column_blocks), top, CELL, CELL, "cell")
        for c in range(weight.inputs):
            left = x + c * CELL + block_gap(c, weight.column_blocks)
            self.rect(left + 1, y - 12, CELL - 2, 7, color=weight.column_color, radius=2)
        width, height = extent(weight)
        for r in weight.rows:
            self.rect(x - 13, y + r * CELL + block_gap(r, weight.row_blocks), width + 13, CELL, "gone")
        for c in weight.columns:
            self.rect(x + c * CELL + block_gap(c, weight.column_blocks), y - 13, CELL, height + 13, "gone")

    def svg(self) -> str:
        width, height = self.size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
            f"<title>{self.told}</title>\n<style>{STYLE}</style>\n"
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L10 5L0 10z" class="head"/></marker></defs>\n'
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" '
            'style="fill: var(--paper); stroke: var(--edge)"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def block_gap(index: int, block: int) -> int:
    return 5 * (index // block) if block else 0


def extent(weight: Weight) -> tuple:
    return (
        weight.inputs * CELL + block_gap(weight.inputs - 1, weight.column_blocks),
        weight.outputs * CELL + block_gap(weight.outputs - 1, weight.row_blocks),
    )


def residual() -> str:
    d = Drawing(860, 436, "A residual block: the addition makes two layers' channels one set of units")
    y = 76
    places = {"stem": 115, "conv1": 275, "conv2": 495, "head": 765}
    d.text(24, 30, "The network, run on labels", "title")
    d.text(24, y - 10, "image", "small")
    for name, x in places.items():
        d.node(x, y, name)
    d.node(385, y, "ReLU", 56)
    d.node(635, y, "+", 34)
    ends = ((24, 83), (146, 243), (306, 356), (413, 463), (526, 617), (652, 733), (796, 838))
    for start, end in ends:
        d.arrow((start, y), (end, y))
    d.arrow((172, y), (172, y + 52), (635, y + 52), (635, y + 18))
    for x, color in ((206, "stream"), (327, "inner"), (435, "inner"), (569, "stream"), (690, "stream")):
        strip(d, x - 18, y - 20, color)
    strip(d, 385, y + 40, "stream")
    told = "at the addition the shortcut's labels and those of conv2 meet, and become one with each other"
    d.text(405, y + 71, told, "small mid")
    d.text(24, 186, "The weights: a label for every row (output channel) and column (input channel)", "title")
    top = 252
    for weight, x in zip(RESIDUAL, (80, 250, 455, 690)):
        width, height = extent(weight)
        d.text(x + width / 2, top - 24, weight.name, "mid")
        d.weight(x, top, weight)
    legend(d, 24, 352, "stream", "the stream: a unit is a row of stem and of conv2, a column of conv1 and of head")
    legend(d, 24, 378, "inner", "inside: a unit is a row of conv1 and a column of conv2")
    legend(d, 24, 404, "gone", "what goes with unit 2 of the stream")
    legend(d, 440, 404, "fixed", "inputs and outputs of the model stay")
    return d.svg()


def legend(d: Drawing, x, y, color, words):
    if color == "gone":
        d.rect(x, y, 14, 14, "gone", radius=3)
    else:
        d.rect(x, y, 14, 14, color=color, radius=3)
    d.text(x + 22, y + 12, words)


def strip(d: Drawing, x, y, color):
    for k in range(4):
        d.rect(x + k * 9, y, 8, 8, color=color, radius=2)


def attention() -> str:
    d = Drawing(860, 512, "Attention: query and key neurons are units of their own, so are value neurons, head by head")
    d.text(24, 30, "Two heads of three neurons: labels lie as [head][neuron] as soon as a reshape splits the axis", "title")
    x0, middle = 130, 122
    rows = {"query": 76, "key": 122, "value": 168}
    d.text(24, middle - 10, "tokens", "small")
    d.arrow((24, middle), (98, middle))
    strip(d, 34, middle + 8, "stream")
    for name, y in rows.items():
        if y != middle:
            d.arrow((70, middle), (70, y), (98, y))
        d.node(x0, y, name)
    d.node(330, 99, "Q Kᵀ", 70)
    d.node(470, 99, "softmax", 84)
    d.node(600, 134, "· V", 56)
    d.node(735, 134, "output", 68)
    d.arrow((161, 76), (272, 76), (294, 92))
    d.arrow((161, 122), (272, 122), (294, 107))
    d.arrow((365, 99), (427, 99))
    d.arrow((512, 99), (556, 99), (575, 122))
    d.arrow((161, 168), (556, 168), (578, 147))
    d.arrow((628, 134), (700, 134))
    d.arrow((769, 134), (838, 134))
    heads(d, 178, 54, "scores")
    heads(d, 178, 128, "scores")
    heads(d, 178, 176, "values")
    heads(d, 634, 112, "values")
    strip(d, 786, 112, "stream")
    d.text(330, 62, "sums over neurons:", "small mid")
    d.text(330, 77, "q = k, pair by pair", "small mid")
    d.text(470, 133, "tokens alone: no label", "small mid")
    d.text(728, 176, "heads meet heads; neurons of V go on", "small mid")
    d.text(24, 224, "The weights", "title")
    top = 284
    for weight, x in zip(ATTENTION, (70, 250, 430, 640)):
        width, height = extent(weight)
        d.text(x + width / 2, top - 24, weight.name, "mid")
        d.weight(x, top, weight)
    y = 424
    legend(d, 24, y, "scores", "a unit is a row of query and the same row of key")
    legend(d, 24, y + 26, "values", "a unit is a row of value and a column of output")
    legend(d, 24, y + 52, "stream", "the stream: columns of query, key and value, rows of output")
    legend(d, 500, y, "gone", "neuron 1 of one head, 2 of the other")
    d.text(500, y + 40, "The reshape is rectangular: all heads lose equally", "small")
    d.text(500, y + 58, "many. Each may choose its own (group_policy none).", "small")
    return d.svg()


def heads(d: Drawing, x, y, color):
    for head in range(2):
        for k in range(3):
            d.rect(x + head * 32 + k * 9, y, 8, 8, color=color, radius=2)


if __name__ == "__main__":
    folder = pathlib.Path(__file__).resolve().parent
    for name, draw in (("residual", residual), ("attention", attention)):
        (folder / f"coupling-{name}.svg").write_text(draw())
