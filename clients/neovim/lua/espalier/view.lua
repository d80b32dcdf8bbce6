-- Buffers: a model file as an outline, which can be folded and walked, and plans. They are never written, and the model
-- file is read by the daemon alone.
local M = {}

local server = require('espalier.server')
local names = vim.api.nvim_create_namespace('espalier')
local coupled = vim.api.nvim_create_namespace('espalier_coupled')
local HIGHLIGHTS = {
  EspalierTitle = 'Title',
  EspalierName = 'Function',
  EspalierGroup = 'Identifier',
  EspalierFixed = 'WarningMsg',
  EspalierNote = 'Comment',
  EspalierError = 'ErrorMsg',
  EspalierCoupled = 'Search',
}
for name, link in pairs(HIGHLIGHTS) do
  vim.api.nvim_set_hl(0, name, { link = link, default = true })
end
-- By buffer: { path, shapes, inspection, outline } of an outline, { path, shapes, request } of a plan.
local views = {}

--- What a buffer shows, or nil.
function M.of(buffer)
  return views[buffer == 0 and vim.api.nvim_get_current_buf() or buffer]
end

-- .pt is also Zope's page templates, and .h5 what somebody likes: the first bytes decide, except for ONNX, which has no
-- signature.
local SIGNATURES = { 'PK\3\4', '\128\2', '\137HDF\r\n\26\n' }
local function is_model(path)
  local stat = vim.loop.fs_stat(path)
  if not stat or stat.type ~= 'file' or stat.size == 0 then
    return false
  end
  local file = io.open(path, 'rb')
  if not file then
    return false
  end
  local head = file:read(8)
  file:close()
  if path:match('%.onnx$') then
    return true
  end
  for _, signature in ipairs(SIGNATURES) do
    if head:sub(1, #signature) == signature then
      return true
    end
  end
  return false
end

local function show(buffer, lines)
  vim.bo[buffer].readonly = false
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_clear_namespace(buffer, names, 0, -1)
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  vim.bo[buffer].modifiable = false
  vim.bo[buffer].modified = false
  vim.bo[buffer].readonly = true
end

local function mark(buffer, space, row, from, to, group)
  vim.api.nvim_buf_set_extmark(buffer, space, row - 1, from, { end_col = to, hl_group = group })
end

local function go_to(row)
  if row then
    vim.cmd("normal! m'") -- so that CTRL-O leads back
    vim.api.nvim_win_set_cursor(0, { row, 2 })
    vim.cmd('normal! zv')
  end
end

local function current_row()
  return vim.api.nvim_win_get_cursor(0)[1]
end

-- The layer on whose line, or on one of whose details, the cursor is, and its row.
local function layer_here(view)
  local outline, here = view.outline, current_row()
  if not outline or here >= outline.headings[3] then -- below the layers stand the groups
    return nil
  end
  for index = #outline.rows, 1, -1 do
    if outline.rows[index] <= here then
      return view.inspection.layers[index], outline.rows[index]
    end
  end
end

-- Rows of the layer at `row` and of those whose channels go with its own, in order.
local function coupled_rows(view, layer, row)
  local rows = { row }
  for _, name in ipairs(layer.coupled_with or {}) do
    table.insert(rows, view.outline.layers[name])
  end
  table.sort(rows)
  return rows
end

-- The first of `rows` after the cursor, or with step -1 the last before it, around the end where `wrap`.
local function neighbour(rows, step, wrap)
  local here, from, to = current_row(), step > 0 and 1 or #rows, step > 0 and #rows or 1
  for index = from, to, step do
    if (rows[index] - here) * step > 0 then
      return rows[index]
    end
  end
  return wrap and rows[from] or nil
end

--- Moves to the next (step 1) or previous (step -1) layer whose channels go with those of the one at the cursor.
function M.go_to_coupled(step)
  local view = M.of(0)
  if not view then
    return
  end
  local layer, row = layer_here(view)
  if layer then
    go_to(neighbour(coupled_rows(view, layer, row), step, true))
  end
end

--- Moves to the next (step 1) or previous (step -1) heading, layer or group.
function M.go_to_entry(step)
  local view = M.of(0)
  if view and view.outline then
    local rows = vim.list_extend({}, view.outline.headings)
    vim.list_extend(rows, view.outline.rows)
    vim.list_extend(rows, vim.tbl_values(view.outline.groups))
    table.sort(rows)
    go_to(neighbour(rows, step, false))
  end
end

--- Moves to what the line speaks of: from a layer to its group, from a name to the layer of that name.
function M.follow()
  local view = M.of(0)
  local target = view and view.outline and view.outline.targets[current_row()]
  if target then
    go_to(target.layer and view.outline.layers[target.layer] or view.outline.groups[target.group])
  end
end

--- Shows in a floating window why the layer at the cursor can be pruned, or cannot.
function M.explain()
  local view = M.of(0)
  local layer = view and layer_here(view)
  if layer then
    local text = { layer.name, '', layer.explanation or layer.reason or '' }
    vim.lsp.util.open_floating_preview(text, 'text', { wrap = true, max_width = 80, focus_id = 'espalier' })
  end
end

--- For 'foldexpr'.
function M.fold(row)
  local view = M.of(0)
  return view and view.outline and view.outline.folds[row] or '0'
end

-- Closed folds show no highlighting of their own before Neovim 0.10, but signs.
local function highlight_coupled()
  local view = M.of(0)
  vim.api.nvim_buf_clear_namespace(0, coupled, 0, -1)
  if not view then
    return
  end
  local layer, here = layer_here(view)
  if layer and #(layer.coupled_with or {}) > 0 then
    for _, row in ipairs(coupled_rows(view, layer, here)) do
      vim.api.nvim_buf_set_extmark(0, coupled, row - 1, 2, {
        end_col = 2 + #view.outline.lines[row]:match('^  (.-)  '),
        hl_group = 'EspalierCoupled',
        priority = 5000, -- above the marks of the outline
        sign_text = '●',
        sign_hl_group = 'EspalierGroup',
      })
    end
  end
end

local function window_options()
  vim.opt_local.wrap = false
  if M.of(0).request then
    return
  end
  vim.opt_local.cursorline = true
  vim.opt_local.foldmethod = 'expr'
  vim.opt_local.foldexpr = "v:lua.require'espalier.view'.fold(v:lnum)"
  vim.opt_local.foldtext = vim.fn.has('nvim-0.10') == 1 and '' or 'getline(v:foldstart)'
  vim.opt_local.foldlevel = 1
  vim.opt_local.fillchars:append({ fold = ' ' })
  vim.opt_local.signcolumn = 'yes'
  vim.opt_local.winhighlight = 'Folded:Normal,SignColumn:Normal'
end

local function map_keys(buffer)
  local function map(key, action, description, ...)
    local arguments = { ... }
    vim.keymap.set('n', key, function()
      action(unpack(arguments))
    end, { buffer = buffer, desc = description, nowait = true })
  end
  map('<CR>', M.follow, 'To what the line speaks of')
  map(']c', M.go_to_coupled, 'Next coupled layer', 1)
  map('[c', M.go_to_coupled, 'Previous coupled layer', -1)
  map(']]', M.go_to_entry, 'Next entry', 1)
  map('[[', M.go_to_entry, 'Previous entry', -1)
  map('K', M.explain, 'Why the layer can be pruned, or cannot')
end

-- Makes a buffer one of ours: nothing is read into it from a file, nor written.
local function claim(buffer, view)
  views[buffer] = view
  vim.bo[buffer].buftype = 'nofile'
  vim.bo[buffer].swapfile = false
  vim.bo[buffer].undolevels = -1
  vim.bo[buffer].filetype = 'espalier'
  if require('espalier').config.mappings then
    map_keys(buffer)
  end
  local group = vim.api.nvim_create_augroup('espalier_buffer_' .. buffer, {})
  local function on(event, callback)
    vim.api.nvim_create_autocmd(event, { group = group, buffer = buffer, callback = callback })
  end
  on('BufWinEnter', window_options)
  on('CursorMoved', highlight_coupled)
  on('BufWipeout', function()
    views[buffer] = nil
  end)
end

local function show_outline(buffer, inspection)
  local view = views[buffer]
  view.inspection, view.outline = inspection, require('espalier.outline').new(inspection)
  show(buffer, view.outline.lines)
  for _, m in ipairs(view.outline.marks) do
    mark(buffer, names, unpack(m))
  end
  -- Folds are computed anew, from the outline that is there only now.
  for _, window in ipairs(vim.fn.win_findbuf(buffer)) do
    vim.api.nvim_win_call(window, window_options)
  end
end

local function show_error(buffer, err)
  local lines = { vim.fn.fnamemodify(views[buffer].path, ':t'), '' }
  vim.list_extend(lines, vim.split(server.describe(err), '\n'))
  if (err.data or {}).kind == 'model.inputShapes' then
    vim.list_extend(lines, { '', 'Say the shape of each input, in order:', '  :EspalierInspect shape=1,3,224,224' })
  end
  show(buffer, lines)
  mark(buffer, names, 1, 0, #lines[1], 'EspalierTitle')
  mark(buffer, names, 3, 0, #lines[3], 'EspalierError')
end

--- Asks for the model's structure, and shows it.
function M.inspect(buffer)
  local view = views[buffer]
  view.inspection, view.outline = nil, nil
  show(buffer, { vim.fn.fnamemodify(view.path, ':t'), '', 'Reading ...' })
  local params = { model = view.path, input_shapes = view.shapes }
  server.request('inspect', params, 'Reading', function(err, inspection)
    if views[buffer] ~= view or not vim.api.nvim_buf_is_loaded(buffer) then
      return
    end
    view.error = err
    if err then
      show_error(buffer, err)
    else
      show_outline(buffer, inspection)
    end
  end)
end

-- What the editor would have done without this plugin.
local function read_as_usual(path)
  local missing = vim.loop.fs_stat(path) == nil
  vim.cmd('keepalt noautocmd edit ' .. vim.fn.fnameescape(path))
  vim.cmd('doautocmd <nomodeline> ' .. (missing and 'BufNewFile' or 'BufReadPost'))
end

--- The model file's outline instead of its bytes: what BufReadCmd calls.
function M.read(buffer, path)
  path = vim.fn.fnamemodify(path, ':p')
  if not is_model(path) then
    return read_as_usual(path)
  end
  claim(buffer, { path = path, shapes = views[buffer] and views[buffer].shapes })
  M.inspect(buffer)
end

--- Shows a plan in a window of its own; one buffer for each model.
--- @param view table of the model
--- @param request table the params of the request, which :EspalierCompress takes up from here
function M.show_plan(view, title, request, answer)
  local name = 'espalier://plan' .. view.path
  local buffer = vim.fn.bufadd(name)
  vim.fn.bufload(buffer)
  claim(buffer, { path = view.path, shapes = view.shapes, request = request })
  vim.bo[buffer].bufhidden = 'hide'
  local lines, headings = require('espalier.plan').lines(title, answer)
  show(buffer, lines)
  for _, row in ipairs(headings) do
    mark(buffer, names, row, 0, #lines[row], 'EspalierTitle')
  end
  if #vim.fn.win_findbuf(buffer) == 0 then
    vim.cmd('botright split')
    vim.api.nvim_win_set_buf(0, buffer)
  end
end

return M
