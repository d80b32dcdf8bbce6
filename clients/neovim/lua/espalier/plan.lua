-- What a compression would do, or has done: the answers to `recommend` and `compress` as lines. Pure.
local format = require('espalier.format')
local M = {}

-- Channels, or ranks, that a layer keeps.
local function kept(entry)
  if not entry.use then
    return '', 'stays'
  end
  if entry.ranks then
    return 'rank', table.concat(entry.values, ', ')
  end
  local share = entry.values[1] -- a whole number of channels
  return '-> ' .. math.floor(entry.channels[1] * (1 - share) + 0.5), string.format('-%.0f%%', share * 100)
end

local function totals(original, compressed)
  local function line(word, show, member)
    local share = string.format('%.0f%%', 100 * compressed[member] / math.max(1, original[member]))
    return { '  ' .. word, show(original[member]), '->', show(compressed[member]), share }
  end
  return format.columns({
    line('parameters', format.count, 'parameters'),
    line('MACs', format.count, 'macs'),
    line('file', format.bytes, 'size_bytes'),
  }, { 'left', 'right', 'left', 'right', 'right' })
end

--- One line: what became of the model.
function M.summary(answer)
  local original, compressed = answer.original, answer.compressed
  return string.format(
    'parameters %s -> %s, MACs %s -> %s, file %s -> %s',
    format.count(original.parameters),
    format.count(compressed.parameters),
    format.count(original.macs),
    format.count(compressed.macs),
    format.bytes(original.size_bytes),
    format.bytes(compressed.size_bytes)
  )
end

--- @param title string
--- @param answer table of `recommend` or `compress`
--- @return table lines
--- @return table headings their row numbers
function M.lines(title, answer)
  local sizes = answer.estimate or answer
  local lines, headings = {}, {}
  local function section(heading, content)
    if #content > 0 then
      table.insert(lines, heading)
      table.insert(headings, #lines)
      vim.list_extend(lines, content)
      table.insert(lines, '')
    end
  end
  section(title, totals(sizes.original, sizes.compressed))

  local rows = vim.tbl_map(function(entry)
    local result, how = kept(entry)
    return { '  ' .. entry.name, table.concat(entry.channels, ' → '), result, how }
  end, answer.available_layers or answer.layers)
  section('Layers: channels', format.columns(rows, { 'left', 'right', 'right', 'right' }))

  section('Left alone', vim.tbl_map(function(layer)
    return string.format('  %s: %s', layer.name, layer.reason)
  end, answer.skipped))
  section('Warnings', vim.tbl_map(function(warning)
    return '  ' .. warning
  end, answer.warnings or {}))
  return vim.tbl_map(function(line)
    return (line:gsub('%c', ' '))
  end, lines), headings
end

return M
