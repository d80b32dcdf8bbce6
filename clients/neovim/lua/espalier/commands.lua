-- The commands. Their arguments are the words of the protocol: METHOD, ratio=, macs=, output=, and any of its options.
local plan = require('espalier.plan')
local server = require('espalier.server')
local view = require('espalier.view')
local M = {}

-- Known without a daemon, so that completion works before there is one.
local METHODS = {
  'automatic', 'PR_L2', 'PR_GM', 'PR_NN', 'PR_SNP', 'PR_L1', 'PR_BN_L2', 'PR_GROUP_L2', 'PR_RANDOM', 'PR_REC', 'FD_TK',
  'FD_SVD',
}
local TARGETS = { parameters = 'parameters', macs = 'macs', size = 'size_bytes', energy = 'energy' }
local RECOMMEND_WORDS = { 'ratio=', 'macs=', 'parameters=', 'size=', 'energy=', 'dataset=', 'reconstruct=', 'shape=' }
local RECONSTRUCTIONS = { 'least_squares', 'bias' }
local COMPRESS_WORDS = vim.list_extend({ 'output=', 'onnx_output=', 'verify', 'dry_run' }, RECOMMEND_WORDS)

local function complain(message)
  vim.notify('espalier: ' .. message, vim.log.levels.ERROR)
end

local function absolute(path)
  return vim.fn.fnamemodify(vim.fn.expand(path), ':p')
end

local function number(word, text)
  return tonumber(text) or error({ message = string.format('%s=%s is not a number', word, text) })
end

-- An option's value: numbers and booleans as such, include and exclude as lists.
local function option(name, text)
  if name == 'include' or name == 'exclude' then
    return vim.split(text, ',')
  end
  if text == 'true' or text == 'false' then
    return text == 'true'
  end
  return tonumber(text) or text
end

-- Reads a command's words into what they say: { request, options, shapes, files }.
local function parse(words)
  local said = { request = {}, options = {}, shapes = nil, files = {} }
  for _, word in ipairs(words) do
    local key, value = word:match('^([%a_]+)=(.*)$')
    if key == 'ratio' then
      said.request.recommendation_ratio = number(key, value)
    elseif TARGETS[key] then
      said.request.target = { [TARGETS[key]] = number(key, value) }
    elseif key == 'output' then
      said.request.output_path = absolute(value)
    elseif key == 'onnx_output' then
      said.request.onnx_output_path = absolute(value)
    elseif key == 'dataset' then
      said.request.dataset_path = absolute(value)
    elseif key == 'reconstruct' then
      said.request.reconstruct = value
    elseif key == 'shape' then
      local lengths = vim.tbl_map(function(length)
        return number('shape', length)
      end, vim.split(value, '[,x]'))
      said.shapes = said.shapes or {}
      table.insert(said.shapes, { shape = lengths })
    elseif key then
      said.options[key] = option(key, value)
    elseif word == 'verify' or word == 'dry_run' then
      said.request[word] = true
    elseif word == 'automatic' or word:match('^%u%u_[%u%d_]+$') then
      said.request.compression_method = word
    else
      table.insert(said.files, word)
    end
  end
  return said
end

-- Calls `action` with what was said; what it raises as { message } is told.
local function with_words(arguments, action)
  local ok, err = pcall(function()
    action(parse(arguments.fargs))
  end)
  if not ok then
    complain(type(err) == 'table' and err.message or err)
  end
end

-- The current buffer's model, with the shapes that were said for it.
local function current_view(said)
  local current = view.of(0)
  if not current then
    error({ message = 'the current buffer shows no model; open one, or its plan' })
  end
  if #said.files > 0 then
    error({ message = 'what is ' .. said.files[1] .. '? See :help espalier-arguments' })
  end
  current.shapes = said.shapes or current.shapes
  return current
end

-- What is to be done, where it was not said: as in the plan that is looked at, else as set.
local function complete_request(said, current)
  local config = require('espalier').config
  local request = said.request
  local planned = not request.compression_method and not request.target and not request.recommendation_ratio
  if planned and current.request then
    request = vim.tbl_extend('keep', request, current.request)
  else
    request.compression_method = request.compression_method or config.method
    if request.compression_method == 'automatic' then
      request.compression_method = nil -- the daemon's to choose
      if not request.target then
        error({ message = 'automatic takes the size to reach, such as macs=0.5' })
      end
    end
    local decomposes = vim.startswith(request.compression_method or '', 'FD_')
    if not request.target then
      request.recommendation_ratio = request.recommendation_ratio or (decomposes and 0 or config.ratio)
    end
    if request.compression_method and not (decomposes and request.target) then
      request.recommendation_method = decomposes and 'VBMF' or 'SLAMP'
    end
  end
  request.model, request.input_shapes = current.path, current.shapes
  if not vim.tbl_isempty(said.options) then
    request.options = vim.tbl_extend('force', request.options or {}, said.options)
  end
  return request
end

-- "PR_L2, ratio 0.5".
local function title(request)
  local wanted = request.recommendation_ratio and 'ratio ' .. request.recommendation_ratio
  for word, member in pairs(TARGETS) do
    if request.target and request.target[member] then
      wanted = string.format('%s of %s', request.target[member], word)
    end
  end
  return string.format('%s, %s', request.compression_method or 'automatic', wanted)
end

function M.inspect(arguments)
  with_words(arguments, function(said)
    if next(said.options) or next(said.request) then
      error({ message = 'only a file and shape= are meant here' })
    end
    if said.files[1] then
      local shapes = said.shapes
      vim.cmd('edit ' .. vim.fn.fnameescape(said.files[1]))
      said = { files = {}, shapes = shapes }
      if not shapes then
        return
      end
    end
    local current = current_view(said)
    if current.request then
      error({ message = 'this is a plan; :EspalierRecommend makes it anew' })
    end
    view.inspect(vim.api.nvim_get_current_buf())
  end)
end

function M.recommend(arguments)
  with_words(arguments, function(said)
    local current = current_view(said)
    local request = complete_request(said, current)
    server.request('recommend', request, 'Recommending', function(err, answer)
      if err then
        return complain(server.describe(err))
      end
      local heading = string.format('%s: %s', vim.fn.fnamemodify(current.path, ':t'), title(request))
      view.show_plan(current, heading, request, answer)
    end)
  end)
end

local function tell(request, answer)
  local name = answer.output_path and vim.fn.fnamemodify(answer.output_path, ':~:.') or 'dry run'
  local refitted = answer.reconstruction
  if refitted then
    name = name .. (refitted.kept and ' (refitted)' or ' (not refitted: that brought it no nearer to the original)')
  end
  local verified = answer.verification.status
  if verified ~= 'skipped' then
    name = string.format('%s (verified: %s)', name, verified)
  end
  vim.notify(string.format('espalier: %s: %s', name, plan.summary(answer)), vim.log.levels.INFO)
  for _, warning in ipairs(answer.warnings) do
    vim.notify('espalier: ' .. warning, vim.log.levels.WARN)
  end
end

function M.compress(arguments)
  with_words(arguments, function(said)
    local current = current_view(said)
    local request = complete_request(said, current)
    local stem, ending = current.path:match('^(.*)(%.[^./]*)$')
    request.output_path = request.output_path or stem .. '-compressed' .. ending
    request.overwrite = arguments.bang or nil
    server.request('compress', request, 'Compressing', function(err, answer)
      if not err then
        return tell(request, answer)
      end
      local message = server.describe(err)
      if (err.data or {}).kind == 'output.exists' then
        message = message .. ' (add ! to replace it)'
      end
      complain(message)
    end)
  end)
end

function M.cancel()
  if server.cancel() == 0 then
    vim.notify('espalier: nothing is running', vim.log.levels.INFO)
  end
end

-- Options by name, as the daemon tells them; none before there is one.
local function known_options()
  local session = server.session()
  return session and session.capabilities and session.capabilities.options or {}
end

-- As they are typed: a blank ends a word unless there is a backslash before it.
local function files(lead)
  return vim.tbl_map(function(path)
    return (path:gsub(' ', '\\ '))
  end, vim.fn.getcompletion(lead, 'file'))
end

--- For the command line: methods, words, names and values of options, paths.
function M.complete(command, lead)
  local key, value = lead:match('^([%a_]+)=(.*)$')
  local words = {}
  if key == 'output' or key == 'onnx_output' or key == 'dataset' then
    words = vim.tbl_map(function(path)
      return key .. '=' .. path
    end, files(value))
  elseif key then
    local values = key == 'reconstruct' and RECONSTRUCTIONS or (known_options()[key] or {}).values
    for _, possible in ipairs(values or {}) do
      table.insert(words, key .. '=' .. possible)
    end
  elseif command == 'EspalierInspect' then
    words = vim.list_extend({ 'shape=' }, files(lead))
  else
    vim.list_extend(words, METHODS)
    vim.list_extend(words, command == 'EspalierCompress' and COMPRESS_WORDS or RECOMMEND_WORDS)
    for name in pairs(known_options()) do
      table.insert(words, name .. '=')
    end
  end
  local matching = vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, words)
  table.sort(matching)
  return matching
end

return M
