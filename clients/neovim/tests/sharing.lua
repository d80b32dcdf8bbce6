-- Neovim's part of test_sharing.py: opens the model when everyone is there, and stays until everyone is done.
local tests = ...
local scratch = vim.env.ESPALIER_TEST_SCRATCH

local function await_file(name)
  Await(function() return vim.loop.fs_stat(scratch .. '/' .. name) end, name)
end

function tests.shares_the_daemon()
  vim.fn.writefile({}, scratch .. '/neovim-ready')
  await_file('go')
  Open(vim.env.ESPALIER_TEST_MODELS .. '/digits_resnet.onnx')
  Contains(table.concat(Lines(), '\n'), 'Layers (14)')
  Equal(require('espalier.server').session().kind, 'shared')
  vim.cmd('EspalierRecommend ratio=0.3')
  Await(function() return require('espalier.view').of(0).request end, 'the plan')
  vim.fn.writefile({}, scratch .. '/neovim-done')
  await_file('stop')
end
