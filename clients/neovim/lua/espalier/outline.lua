-- The outline of a model, made of the answer to `inspect`. Pure: it knows neither buffers nor the daemon.
--
-- An outline has `lines`; `folds`, a 'foldexpr' value for each line; `marks` { row, from, to, group } to highlight,
-- rows from 1 and bytes from 0; `targets`, what a line leads to ({ layer = name } or { group = id }); and the rows at which
-- things stand: `rows` of the layers in order, `layers` by name (of equal ones the first), `groups` by id, `headings`.
local format = require('espalier.format')
local M = {}

local SENTENCE_WIDTH = 80

local Outline = {}
Outline.__index = Outline

-- Adds a line; `marked` is the highlight group of all of it.
function Outline:add(text, fold, marked)
  -- Names come from foreign files.
  text = text:gsub('%c', ' ')
  table.insert(self.lines, text)
  table.insert(self.folds, fold)
  if marked then
    table.insert(self.marks, { #self.lines, 0, #text, marked })
  end
  return #self.lines
end

-- A detail under a layer or a group: a dim word, then what it says.
function Outline:detail(word, text, target)
  local row = self:add(string.format('      %-9s  %s', word, text), '2')
  table.insert(self.marks, { row, 6, 6 + #word, 'EspalierNote' })
  self.targets[row] = target
end

-- A sentence under a layer or a group, over as many lines as it needs.
function Outline:sentence(word, text)
  for _, line in ipairs(format.wrap(text, SENTENCE_WIDTH)) do
    self:detail(word, line)
    word = ''
  end
end

function Outline:heading(text)
  self:add('', '0')
  table.insert(self.headings, self:add(text, '>1', 'EspalierTitle'))
end

function Outline:summary(inspection)
  local model = inspection.model
  local about = { model.format, format.bytes(model.size_bytes) }
  if model.opset then
    table.insert(about, 2, 'opset ' .. model.opset)
  end
  if model.framework and model.framework ~= '' then
    table.insert(about, 2, model.framework)
  end
  self:add(vim.fn.fnamemodify((model.path:gsub('^file://', '')), ':t'), '0', 'EspalierTitle')
  self:add(table.concat(about, ' · '), '0', 'EspalierNote')
  self:add(
    string.format('%s parameters · %s MACs', format.count(inspection.parameters), format.count(inspection.macs)),
    '0'
  )
  self:heading('Inputs and outputs')
  local function ports(word, list)
    for _, port in ipairs(list) do
      local text = string.format('%s: %s, %s', port.name, port.dtype or 'unknown type', format.shape(port.shape))
      local row = self:add(string.format('  %-7s  %s', word, text), '1')
      table.insert(self.marks, { row, 2, 9, 'EspalierNote' })
    end
  end
  ports('input', inspection.inputs)
  ports('output', inspection.outputs)
  for _, assumed in ipairs(inspection.assumed_lengths or {}) do
    self:add(string.format('  %s is counted as %d', assumed.symbol, assumed.length), '1', 'EspalierNote')
  end
end

local function operator(layer)
  local text = layer.op
  if layer.kernel then
    text = string.format('%s %s', text, table.concat(layer.kernel, 'x'))
  end
  return (layer.groups or 1) > 1 and string.format('%s /%d', text, layer.groups) or text
end

local function ranks(possible)
  local text = string.format('%s up to %s', possible.method, table.concat(possible.full_rank, ', '))
  if not possible.break_even_rank then
    return text .. ', never cheaper'
  end
  return string.format('%s, cheaper up to %s', text, table.concat(possible.break_even_rank, ', '))
end

function Outline:layer_details(layer)
  self:sentence('output', layer.explanation or layer.reason or '')
  self:detail('weight', layer.parameter or '')
  for _, name in ipairs(layer.coupled_with or {}) do
    self:detail('with', name, { layer = name })
  end
  self:detail('methods', #layer.methods > 0 and table.concat(layer.methods, ' ') or 'none')
  for _, possible in ipairs(layer.decomposition or {}) do
    self:detail('ranks', ranks(possible))
  end
end

function Outline:all_layers(layers)
  self:heading(string.format('Layers (%d): channels, parameters, MACs', #layers))
  local rows = vim.tbl_map(function(layer)
    return {
      '  ' .. layer.name,
      operator(layer),
      string.format('%s → %s', layer.channels[1], layer.channels[2]),
      format.count(layer.parameters),
      format.count(layer.macs),
      layer.group and 'group ' .. layer.group or 'fixed',
    }
  end, layers)
  for index, line in ipairs(format.columns(rows, { 'left', 'left', 'right', 'right', 'right', 'left' })) do
    local layer = layers[index]
    local row = self:add(line, '>2')
    local last = #line - #rows[index][6]
    self.rows[index] = row
    self.layers[layer.name] = self.layers[layer.name] or row
    self.targets[row] = layer.group and { group = layer.group }
    table.insert(self.marks, { row, 2, 2 + #layer.name, 'EspalierName' })
    table.insert(self.marks, { row, last, #line, layer.group and 'EspalierGroup' or 'EspalierFixed' })
    self:layer_details(layer)
  end
end

function Outline:all_groups(groups)
  self:heading(string.format('Groups (%d): channels that go together', #groups))
  local rows = vim.tbl_map(function(group)
    return {
      '  group ' .. group.id,
      group.name,
      format.plural(group.size, 'unit'),
      format.plural(#group.layers, 'layer'),
      group.prunable and '' or 'fixed',
    }
  end, groups)
  for index, line in ipairs(format.columns(rows, { 'left', 'left', 'right', 'right', 'left' })) do
    local group = groups[index]
    local row = self:add(line, '>2')
    self.groups[group.id] = row
    self.targets[row] = { layer = group.layers[1] }
    table.insert(self.marks, { row, 2, #rows[index][1], 'EspalierGroup' })
    if not group.prunable then
      table.insert(self.marks, { row, #line - #'fixed', #line, 'EspalierFixed' })
      self:sentence('output', group.reason or '')
    end
    if group.channels ~= group.size then
      self:detail('channels', tostring(group.channels))
    end
    if group.balance then
      local blocks = string.format('%d of %d, which lose equally many', group.balance.blocks, group.balance.width)
      self:detail('blocks', blocks)
      for _, linked in ipairs(group.balance.linked_with or {}) do
        self:detail('linked', 'group ' .. linked, { group = linked })
      end
    end
    for _, name in ipairs(group.layers) do
      self:detail('layer', name, { layer = name })
    end
  end
end

--- @param inspection table the answer to `inspect`
--- @return table
function M.new(inspection)
  local outline = setmetatable(
    { lines = {}, folds = {}, marks = {}, targets = {}, rows = {}, layers = {}, groups = {}, headings = {} },
    Outline
  )
  outline:summary(inspection)
  outline:all_layers(inspection.layers)
  outline:all_groups(inspection.groups)
  return outline
end

return M
