-- :checkhealth espalier
local M = {}

local health = vim.health or require('health')
local start = health.start or health.report_start
local ok = health.ok or health.report_ok
local info = health.info or health.report_info
local fail = health.error or health.report_error

function M.check()
  local server = require('espalier.server')
  start('espalier')
  local program, err = server.find()
  if program then
    ok(string.format('%s: %s', program, vim.trim(vim.fn.system({ program, '--version' }))))
  else
    fail(server.describe(err), { 'Set the environment variable ESPALIER_SERVER to the path of espalierd' })
  end
  local session = server.session()
  if session then
    ok(string.format('%s daemon, version %s: %s', session.kind, session.version, session.address))
  else
    info('no session yet: the first model that is opened starts one')
  end
end

return M
