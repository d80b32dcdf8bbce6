-- The session with espalierd: a shared daemon where one listens, one of our own where none does. It is opened by the
-- first request, and again by the next one after it ended. Every request is answered once, whatever happens.
local uv = vim.loop
local config = function()
  return require('espalier').config
end
local M = {}

local PROTOCOL_VERSION = '1.0'
local CANCELLED = { code = -32800, message = 'cancelled', data = { kind = 'cancelled' } }

-- The open session: { rpc, kind = 'shared' | 'private', address, capabilities, version }.
local session
-- Callbacks of those who wait for a session that is being opened; nil while none is.
local waiting
-- Calls that were not answered yet, by token.
local calls = {}
local latest_token = 0

-- A failure that did not come from the daemon, in the form of one that did.
local function failure(kind, message)
  return { message = message, data = { kind = kind } }
end

-- Newer editors decode null as vim.NIL, older ones leave it out, which is what we want.
local function without_null(value)
  if type(value) ~= 'table' then
    return value
  end
  for key, member in pairs(value) do
    if member == vim.NIL then
      value[key] = type(key) == 'string' and nil or member
    else
      without_null(member)
    end
  end
  return value
end

--- The program: as set, else of $ESPALIER_SERVER, else on $PATH.
--- @return string|nil path
--- @return table|nil error
function M.find()
  local named = config().server or vim.env.ESPALIER_SERVER
  local program = vim.fn.exepath(vim.fn.expand(named or 'espalierd'))
  if program ~= '' then
    return program
  end
  return nil,
    failure(
      'server.notFound',
      named and (named .. ' is no program that can be run')
        or "espalierd was found neither by the setting 'server', nor by $ESPALIER_SERVER, nor on $PATH"
    )
end

local function command(program, ...)
  local result = { program, ... }
  if config().threads then
    vim.list_extend(result, { '--threads', tostring(config().threads) })
  end
  return result
end

-- Where a shared daemon would listen, or nil.
local function shared_address(program)
  local socket = config().socket
  if socket ~= nil then
    return socket and vim.fn.expand(socket) or nil
  end
  local printed = program and vim.trim(vim.fn.system(command(program, '--print-address')))
  return vim.v.shell_error == 0 and printed or nil
end

local function redraw()
  vim.cmd('redrawstatus!')
end

local function finish(call, err, result)
  if call.answered then
    return
  end
  call.answered = true
  calls[call.token] = nil
  redraw()
  if err and err.code == CANCELLED.code then
    err = CANCELLED
  end
  call.on_answer(err, without_null(result))
end

local function answer_waiting(err)
  local callbacks = waiting or {}
  waiting = nil
  for _, callback in ipairs(callbacks) do
    callback(err)
  end
end

local function ended(reason)
  session = nil
  answer_waiting(failure('server.stopped', reason))
  for _, call in pairs(vim.tbl_extend('error', {}, calls)) do
    finish(call, failure('server.stopped', reason))
  end
end

local function dispatchers(opening)
  return {
    notification = function(method, params)
      local call = method == '$/progress' and calls[params.token]
      if call then
        call.progress = params.value.kind ~= 'end' and vim.tbl_extend('force', call.progress or {}, params.value) or nil
        redraw()
      elseif method == 'window/logMessage' then
        vim.notify('espalierd: ' .. params.message, vim.log.levels.WARN)
      end
    end,
    on_exit = vim.schedule_wrap(function(code, signal)
      if session == opening then
        ended(string.format('espalierd ended (status %s, signal %s)', code, signal))
      end
    end),
    on_error = function() end, -- what the editor logs itself
  }
end

-- Over a connection that stands: `initialize`, then all who wait.
local function greet(opening, process_id)
  session = opening
  opening.rpc.request('initialize', {
    processId = process_id,
    clientInfo = { name = 'neovim' },
    capabilities = vim.empty_dict(),
    protocolVersion = PROTOCOL_VERSION,
  }, function(err, result)
    if err then
      opening.rpc.terminate()
      session = nil
      return answer_waiting(err)
    end
    opening.capabilities = without_null(result.capabilities)
    opening.version = result.serverInfo.version
    opening.rpc.notify('initialized', vim.empty_dict())
    answer_waiting()
  end)
end

local function open_shared(address, pipe)
  local opening = { kind = 'shared', address = address }
  if vim.fn.has('nvim-0.10') == 1 then
    pipe:close()
    opening.rpc = vim.lsp.rpc.connect(address)(dispatchers(opening))
  else
    opening.rpc = require('espalier.socket').client(pipe, dispatchers(opening))
  end
  greet(opening)
end

local function open_private(program)
  local opening, line = { kind = 'private', address = program }, command(program, '--stdio')
  local ok, rpc
  if vim.fn.has('nvim-0.10') == 1 then
    ok, rpc = pcall(vim.lsp.rpc.start, line, dispatchers(opening))
  else
    ok, rpc = pcall(vim.lsp.rpc.start, table.remove(line, 1), line, dispatchers(opening))
  end
  if not ok or not rpc then
    return answer_waiting(failure('server.notFound', string.format('%s cannot be started: %s', program, rpc or '')))
  end
  opening.rpc = rpc
  rpc.terminate = rpc.terminate or function()
    rpc.handle:kill('sigterm')
  end
  greet(opening, uv.getpid())
end

-- Calls back with an error, or nil once there is a session.
local function with_session(callback)
  if waiting then
    return table.insert(waiting, callback)
  elseif session then
    return callback()
  end
  waiting = { callback }
  local program, err = M.find()
  local address = shared_address(program)
  require('espalier.socket').connect(address or '', function(pipe)
    if pipe then
      open_shared(address, pipe)
    elseif program then
      open_private(program)
    else
      answer_waiting(err)
    end
  end)
end

--- Asks the daemon, starting it if need be.
--- @param method string
--- @param params table
--- @param title string what the status line calls it
--- @param on_answer function gets an error or nil, and the result
function M.request(method, params, title, on_answer)
  latest_token = latest_token + 1
  local call = { token = latest_token, title = title, on_answer = on_answer }
  calls[call.token] = call
  redraw()
  with_session(function(err)
    if err or call.answered then
      return finish(call, err)
    end
    params = vim.tbl_extend('error', params, { workDoneToken = call.token })
    local sent, id = session.rpc.request(method, params, function(failed, result)
      finish(call, failed, result)
    end, function()
      -- The editor keeps the answers of cancelled requests to itself; others are called back before this is.
      vim.schedule(function()
        finish(call, CANCELLED)
      end)
    end)
    call.id = id
    if not sent then
      finish(call, failure('server.stopped', 'espalierd has ended'))
    end
  end)
end

--- Cancels all that is running. Each request is still answered, with an error or with what it had just finished.
--- @return number how many there were
function M.cancel()
  local count = 0
  for _, call in pairs(vim.tbl_extend('error', {}, calls)) do
    count = count + 1
    if call.id then
      session.rpc.notify('$/cancelRequest', { id = call.id })
    else
      finish(call, CANCELLED)
    end
  end
  return count
end

--- The call that was made last of those that run, or nil: { title, progress = { title, message, percentage } | nil }.
function M.latest()
  return calls[math.max(0, unpack(vim.tbl_keys(calls)))]
end

--- The open session, or nil: { kind = 'shared' | 'private', address, capabilities, version }.
function M.session()
  return session
end

--- Ends the session, and with it a daemon of our own; the next request opens another.
function M.stop()
  local closing = session
  if closing then
    ended('the session was closed')
    -- Both are written at once and the answer is not waited for: a private daemon exits by itself.
    closing.rpc.request('shutdown', nil, function() end)
    closing.rpc.notify('exit')
  end
end

--- One line for people.
--- @param err table of the daemon, or of `M.find`
function M.describe(err)
  local data = err.data or {}
  local what = data.kind or (data.path and 'invalid ' .. data.path) or ('error ' .. tostring(err.code))
  return what .. ': ' .. err.message
end

vim.api.nvim_create_autocmd('VimLeavePre', {
  group = vim.api.nvim_create_augroup('espalier_server', {}),
  callback = function()
    calls = {} -- nobody is left to be told
    M.stop()
  end,
})

return M
