-- What a model file looks like in the editor, and how one moves about in it.
local tests = ...
local models, scratch = vim.env.ESPALIER_TEST_MODELS, vim.env.ESPALIER_TEST_SCRATCH
local resnet = models .. '/digits_resnet.onnx'

local function line_of(text)
  for row, line in ipairs(Lines()) do
    if line:find(text, 1, true) then
      return row
    end
  end
  error(text .. ' is nowhere in the buffer')
end

local function put_cursor(text)
  vim.api.nvim_win_set_cursor(0, { line_of(text), 0 })
end

local function cursor_line()
  return vim.api.nvim_get_current_line()
end

local function press(keys)
  vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(keys, true, false, true), 'mx', false)
end

function tests.a_model_is_shown_as_its_structure()
  Open(resnet)
  local text = table.concat(Lines(), '\n')
  Equal(Lines()[1], 'digits_resnet.onnx')
  Contains(text, 'onnx · pytorch')
  Contains(text, '179k parameters · 2.85M MACs')
  Contains(text, 'image: float32, batch x 1 x 8 x 8')
  Contains(text, 'batch is counted as 1')
  Contains(text, 'Layers (14)')
  Contains(text, '/stem/stem.0/Conv                          Conv 3x3   1 → 24    216  13.8k  group 0')
  Contains(text:gsub('%s+', ' '), "which Add '/blocks/blocks.0/Add' and 1 more ties to them")
  Contains(text, 'ranks      FD_TK up to 24, 48, cheaper up to 19, 39')
  Contains(text, 'Groups (8)')
  Equal(vim.bo.filetype, 'espalier')
end

function tests.a_layer_that_cannot_be_pruned_says_why()
  Open(resnet)
  put_cursor('/classifier/Gemm')
  Contains(cursor_line(), 'fixed')
  Contains(Lines()[line_of('/classifier/Gemm') + 1], 'cannot be pruned: its channels are those of a model output')
  press('K')
  local floating = vim.tbl_filter(function(window)
    return vim.api.nvim_win_get_config(window).relative ~= ''
  end, vim.api.nvim_list_wins())
  Equal(#floating, 1)
  local text = table.concat(vim.api.nvim_buf_get_lines(vim.api.nvim_win_get_buf(floating[1]), 0, -1, false), ' ')
  Contains(text, 'model output')
end

function tests.details_are_folded_and_sections_open()
  Open(resnet)
  local stem = line_of('/stem/stem.0/Conv')
  Equal(vim.fn.foldclosed(stem), stem)
  Equal(vim.fn.foldclosedend(stem), line_of('/blocks/blocks.0/conv1/Conv') - 1)
  if vim.o.foldtext ~= '' then -- which shows the line itself, highlighted
    Equal(vim.fn.foldtextresult(stem), Lines()[stem])
  end
  Equal(vim.fn.foldclosed(line_of('Layers (14)')), -1)
  put_cursor('/stem/stem.0/Conv')
  press('zo')
  Equal(vim.fn.foldclosed(stem), -1)
end

function tests.coupled_layers_are_a_key_away_and_highlighted()
  Open(resnet)
  put_cursor('/stem/stem.0/Conv')
  press(']c')
  Contains(cursor_line(), '/blocks/blocks.0/conv2/Conv')
  press(']c')
  Contains(cursor_line(), '/blocks/blocks.1/conv2/Conv')
  press(']c') -- around the end
  Contains(cursor_line(), '/stem/stem.0/Conv')
  press('[c')
  Contains(cursor_line(), '/blocks/blocks.1/conv2/Conv')
  press('<C-o>')
  Contains(cursor_line(), '/stem/stem.0/Conv')

  vim.cmd('doautocmd CursorMoved')
  local space = vim.api.nvim_get_namespaces().espalier_coupled
  local rows = vim.tbl_map(function(mark)
    return Lines()[mark[2] + 1]:match('%S+')
  end, vim.api.nvim_buf_get_extmarks(0, space, 0, -1, {}))
  Equal(rows, { '/stem/stem.0/Conv', '/blocks/blocks.0/conv2/Conv', '/blocks/blocks.1/conv2/Conv' })
  local details = vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })[1][4]
  Equal({ details.end_col, details.hl_group }, { 2 + #'/stem/stem.0/Conv', 'EspalierCoupled' })
  put_cursor('/blocks/blocks.0/conv1/Conv') -- on its own
  vim.cmd('doautocmd CursorMoved')
  Equal(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, {}), {})
end

function tests.return_leads_from_layer_to_group_and_back()
  Open(resnet)
  put_cursor('/blocks/blocks.4/conv2/Conv')
  press('<CR>')
  Contains(cursor_line(), 'group 7')
  press('jj<CR>') -- its second layer
  Contains(cursor_line(), '/blocks/blocks.4/shortcut/shortcut.0/Conv')
  Contains(cursor_line(), '48 → 72')
  press('gg]]]]]]')
  Contains(cursor_line(), '/stem/stem.0/Conv')
  press('[[')
  Contains(cursor_line(), 'Layers')
end

function tests.the_file_is_neither_read_nor_written()
  -- Sparse and huge, as the editor would notice if it read it.
  local huge = scratch .. '/huge.onnx'
  vim.fn.system({ 'truncate', '--size', '20G', huge })
  local shown = Open(huge)
  Equal(shown.error.data.kind, 'model.unsupportedFormat')
  Contains(table.concat(Lines(), '\n'), 'model.unsupportedFormat: ')
  assert(vim.api.nvim_buf_get_offset(0, vim.api.nvim_buf_line_count(0)) < 2000)

  local copy = scratch .. '/copy.onnx'
  vim.loop.fs_copyfile(resnet, copy)
  local before = vim.loop.fs_stat(copy)
  Open(copy)
  Equal({ vim.bo.modifiable, vim.bo.readonly, vim.bo.modified, vim.fn.swapname('%') }, { false, true, false, '' })
  local lines_over_it = '1,2write! ' .. vim.fn.fnameescape(copy)
  for _, command in ipairs({ 'write', 'write!', 'write! %', lines_over_it, 'update!', 'normal ix' }) do
    local done = pcall(vim.cmd, command)
    assert(not done or command == 'update!', command .. ' was not refused') -- which has nothing to do
  end
  pcall(vim.cmd, 'wall!')
  vim.v.errmsg = ''
  local after = vim.loop.fs_stat(copy)
  Equal({ after.mtime, after.ino, after.size }, { before.mtime, before.ino, before.size })
end

function tests.reading_again_shows_what_the_file_has_become()
  local file = scratch .. '/changing.onnx'
  vim.loop.fs_copyfile(resnet, file)
  Contains(table.concat(Open(file).outline.lines, '\n'), 'Layers (14)')
  vim.loop.fs_copyfile(models .. '/digits_mobile.onnx', file)
  Contains(table.concat(Open(file).outline.lines, '\n'), 'Layers (23)')
end

function tests.what_is_no_model_is_edited_as_ever()
  local template = scratch .. '/page.pt'
  vim.fn.writefile({ '<html xmlns:tal="http://xml.zope.org/namespaces/tal">', '</html>' }, template)
  local read = 0
  vim.api.nvim_create_autocmd('BufReadPost', { pattern = '*.pt', callback = function() read = read + 1 end })
  vim.cmd('edit ' .. template)
  Equal({ Lines()[2], vim.bo.buftype, vim.bo.modifiable, read }, { '</html>', '', true, 1 })
  vim.cmd('1delete | write')
  Equal(vim.fn.readfile(template), { '</html>' })

  local fresh = 0
  vim.api.nvim_create_autocmd('BufNewFile', { pattern = '*.onnx', callback = function() fresh = fresh + 1 end })
  vim.cmd('edit ' .. scratch .. '/missing.onnx')
  Equal({ vim.bo.buftype, fresh }, { '', 1 })
end

function tests.a_graph_module_asks_for_shapes_and_takes_them()
  local shown = Open(models .. '/digits_resnet.pt')
  Equal(shown.error.data.kind, 'model.inputShapes')
  Contains(table.concat(Lines(), '\n'), ':EspalierInspect shape=')
  vim.cmd('EspalierInspect shape=1,1,8,8')
  Await(function() return shown.outline end, 'the outline')
  Contains(table.concat(Lines(), '\n'), 'blocks.0.conv1')
  -- They are remembered.
  vim.cmd('edit')
  Await(function() return require('espalier.view').of(0).outline end, 'the outline')
end

function tests.an_exported_program_is_a_model_too()
  Open(models .. '/digits_resnet.pt2')
  Contains(table.concat(Lines(), '\n'), 'torch.export')
end

function tests.layers_of_the_same_name_are_told_apart()
  local function layer(methods, explanation)
    return {
      name = 'same', op = 'Conv', parameter = 'w', channels = { 8, 8 }, kernel = { 3, 3 }, parameters = 576, macs = 576,
      methods = methods, group = 0, coupled_with = {}, explanation = explanation,
    }
  end
  local outline = require('espalier.outline').new({
    model = { path = '/tmp/evil\n name.onnx', format = 'onnx', size_bytes = 1 },
    inputs = {}, outputs = {}, parameters = 1, macs = 1,
    layers = { layer({}, 'first'), layer({ 'PR_L2' }, 'second') },
    groups = {
      { id = 0, name = 'same', size = 8, channels = 8, prunable = false, layers = { 'same' }, reason = 'because' },
    },
  })
  Equal({ #outline.rows, outline.layers.same }, { 2, outline.rows[1] })
  Contains(outline.lines[outline.rows[2] + 1], 'second')
  Contains(table.concat(outline.lines, ' '), 'because')
  for _, line in ipairs(outline.lines) do
    assert(not line:find('%c'), line)
  end
end

function tests.two_windows_and_a_wiped_buffer()
  Open(resnet)
  vim.cmd('split')
  Equal(vim.fn.foldclosed(line_of('/stem/stem.0/Conv')), line_of('/stem/stem.0/Conv'))
  vim.cmd('edit ' .. models .. '/digits_mobile.onnx | bwipeout!') -- while it is being read
  local answered
  require('espalier.server').request('models', {}, 'Asking', function(_, result) answered = result end)
  Await(function() return answered end, 'an answer')
  Equal(Notified, {})
end
