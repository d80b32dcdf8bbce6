-- Numbers and columns as people read them.
local M = {}

local function scaled(number, base, units)
  local unit = 1
  while number >= base and unit < #units do
    number, unit = number / base, unit + 1
  end
  if unit == 1 then
    return string.format('%d', number), units[unit]
  end
  return string.format(number < 9.995 and '%.2f' or number < 99.95 and '%.1f' or '%.0f', number), units[unit]
end

--- 2846160 as "2.85M".
function M.count(number)
  return table.concat({ scaled(number, 1000, { '', 'k', 'M', 'G', 'T' }) })
end

--- 727009 as "727 kB".
function M.bytes(number)
  return table.concat({ scaled(number, 1000, { 'B', 'kB', 'MB', 'GB', 'TB' }) }, ' ')
end

--- A shape as "batch x 3 x 224 x 224", with ? for unknown lengths.
function M.shape(shape)
  if not shape then
    return '?'
  end
  return table.concat(
    vim.tbl_map(function(length)
      return length == vim.NIL and '?' or tostring(length)
    end, shape),
    ' x '
  )
end

--- "1 layer", "2 layers".
function M.plural(number, noun)
  return string.format('%d %s%s', number, noun, number == 1 and '' or 's')
end

--- Text as lines of at most `width` characters, if its words allow it.
function M.wrap(text, width)
  local lines = {}
  for word in text:gmatch('%S+') do
    local longer = #lines > 0 and lines[#lines] .. ' ' .. word
    if longer and vim.fn.strdisplaywidth(longer) <= width then
      lines[#lines] = longer
    else
      table.insert(lines, word)
    end
  end
  return lines
end

--- Rows of strings as lines with aligned columns: { align = 'left' | 'right', ... } for each column.
function M.columns(rows, align)
  local widths = {}
  for _, row in ipairs(rows) do
    for column, text in ipairs(row) do
      widths[column] = math.max(widths[column] or 0, vim.fn.strdisplaywidth(text))
    end
  end
  return vim.tbl_map(function(row)
    local cells = {}
    for column, text in ipairs(row) do
      local blanks = string.rep(' ', widths[column] - vim.fn.strdisplaywidth(text))
      cells[column] = align[column] == 'right' and blanks .. text or text .. blanks
    end
    return (table.concat(cells, '  '):gsub('%s+$', ''))
  end, rows)
end

return M
