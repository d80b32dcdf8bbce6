-- Unix sockets. `connect` finds out whether a daemon listens. `client` is what vim.lsp.rpc.connect returns, for editors
-- whose vim.lsp.rpc knows no Unix sockets (Neovim before 0.10).
local uv = vim.loop
local M = {}

--- Connects, if the socket is this user's own: another user's could answer anything.
--- @param path string
--- @param callback function gets the connected pipe, or nil; on the main loop
function M.connect(path, callback)
  local stat = uv.fs_stat(path)
  if not stat or stat.type ~= 'socket' or stat.uid ~= uv.getuid() then
    return callback(nil)
  end
  local pipe = uv.new_pipe(false)
  pipe:connect(path, vim.schedule_wrap(function(err)
    if err then
      pipe:close()
      pipe = nil
    end
    callback(pipe)
  end))
end

--- Takes chunks of the stream, however they are cut, and calls `receive` with the body of every message.
function M.parser(receive)
  local buffer, needed = '', 0
  return function(chunk)
    buffer = buffer .. chunk
    while #buffer >= needed do
      local _, header_end = buffer:find('\r\n\r\n', 1, true)
      if not header_end then
        return
      end
      local length = tonumber(('\n' .. buffer:sub(1, header_end)):lower():match('\ncontent%-length: *(%d+)\r\n'))
      if not length then
        error('a message without Content-Length')
      end
      needed = header_end + length
      if #buffer < needed then
        return
      end
      receive(buffer:sub(header_end + 1, needed))
      buffer, needed = buffer:sub(needed + 1), 0
    end
  end
end

--- @param pipe userdata a connected pipe
--- @param dispatchers table `notification` and `on_exit`, as vim.lsp.rpc has them
function M.client(pipe, dispatchers)
  local latest, callbacks = 0, {}
  local client = {}

  function client.is_closing()
    return pipe:is_closing()
  end

  function client.terminate()
    if not pipe:is_closing() then
      pipe:close()
      dispatchers.on_exit(0, 0)
    end
  end

  local function send(message)
    if pipe:is_closing() then
      return false
    end
    message.jsonrpc = '2.0'
    local body = vim.json.encode(message)
    pipe:write(string.format('Content-Length: %d\r\n\r\n%s', #body, body))
    return true
  end

  function client.notify(method, params)
    return send({ method = method, params = params })
  end

  function client.request(method, params, callback)
    latest = latest + 1
    callbacks[latest] = callback
    return send({ id = latest, method = method, params = params }), latest
  end

  local parse = M.parser(function(body)
    local message = vim.json.decode(body, { luanil = { object = true } })
    local callback = message.id and callbacks[message.id]
    if callback then
      callbacks[message.id] = nil
      vim.schedule(function()
        callback(message.error, message.result)
      end)
    elseif message.method and not message.id then
      vim.schedule(function()
        dispatchers.notification(message.method, message.params)
      end)
    end
  end)

  pipe:read_start(function(err, chunk)
    if err or not chunk or not pcall(parse, chunk) then
      client.terminate()
    end
  end)
  return client
end

return M
