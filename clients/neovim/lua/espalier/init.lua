-- Settings, and what is running right now. Everything works without calling `setup`.
local M = {}

M.config = {
  -- The program espalierd. nil: $ESPALIER_SERVER, else the one on $PATH.
  server = nil,
  -- The Unix socket of a shared daemon. nil: what `espalierd --print-address` says, if a daemon listens there;
  -- false: always a daemon of this editor's own.
  socket = nil,
  -- Requests that a daemon of this editor's own works on at a time. nil: one per processor.
  threads = nil,
  -- What :EspalierRecommend and :EspalierCompress do where they are not told.
  method = 'PR_L2',
  ratio = 0.5,
  -- Whether outlines get their key mappings.
  mappings = true,
}

--- @param config table|nil members of M.config to change
function M.setup(config)
  for name in pairs(config or {}) do
    if not vim.tbl_contains({ 'server', 'socket', 'threads', 'method', 'ratio', 'mappings' }, name) then
      error('espalier: there is no setting ' .. name)
    end
  end
  M.config = vim.tbl_extend('force', M.config, config or {})
end

--- What espalierd is doing for this editor, as plain text for the status line; empty while it does nothing.
--- @return string
function M.statusline()
  local call = require('espalier.server').latest()
  if not call then
    return ''
  end
  local step = call.progress or {}
  local text = step.title or call.title
  if step.percentage then
    text = string.format('%s %d%%', text, step.percentage)
  end
  return step.message and text .. ' ' .. step.message or text
end

return M
