-- Runs one test of a file in this editor: nvim --headless -u NONE -c 'luafile run.lua', with the file and the test's
-- name in the environment. Exit status 1 and the reason on standard error where it fails.
local here = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h')
vim.opt.runtimepath:prepend(vim.fn.fnamemodify(here, ':h'))
vim.opt.swapfile = false
vim.cmd('filetype plugin indent on | syntax on | runtime plugin/espalier.lua')

-- What the user would see.
Notified = {}
vim.notify = function(message, level)
  table.insert(Notified, { message = message, level = level })
end

-- The first value of `condition` that is true; fails after some seconds.
function Await(condition, what)
  local value
  local ok = vim.wait(20000, function()
    value = condition()
    return value
  end, 5)
  assert(ok, 'waited in vain for ' .. (what or 'something') .. ': ' .. vim.inspect(Notified))
  return value
end

function Equal(found, expected)
  if not vim.deep_equal(found, expected) then
    error('found ' .. vim.inspect(found) .. ', expected ' .. vim.inspect(expected), 2)
  end
end

function Contains(text, part)
  if not text:find(part, 1, true) then
    error(string.format('%q is not in %q', part, text), 2)
  end
end

function Lines()
  return vim.api.nvim_buf_get_lines(0, 0, -1, false)
end

-- Opens a model, and waits until its outline or an error is there.
function Open(path)
  vim.cmd('edit ' .. vim.fn.fnameescape(path))
  local shown = require('espalier.view').of(0)
  Await(function()
    return shown.outline or shown.error
  end, 'the outline of ' .. path)
  return shown
end

local ok, problem = xpcall(function()
  local tests = {}
  assert(loadfile(vim.env.ESPALIER_TEST_FILE))(tests)
  tests[vim.env.ESPALIER_TEST_NAME]()
end, debug.traceback)
if ok and vim.v.errmsg ~= '' then
  ok, problem = false, 'the editor complained: ' .. vim.v.errmsg
end
if not ok then
  io.stderr:write(problem, '\n')
  vim.cmd('cquit 1')
end
vim.cmd('qall!')
