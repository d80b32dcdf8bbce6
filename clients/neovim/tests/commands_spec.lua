-- Recommending, compressing and cancelling, and the daemon behind them.
local tests = ...
local models, scratch = vim.env.ESPALIER_TEST_MODELS, vim.env.ESPALIER_TEST_SCRATCH
local espalier, server = require('espalier'), require('espalier.server')
local resnet = models .. '/digits_resnet.onnx'

local function last()
  return (Notified[#Notified] or { message = '' }).message
end

local function await_message(part)
  Await(function() return last():find(part, 1, true) end, 'a message with ' .. part)
  return last()
end

local function recommend(words)
  vim.cmd('EspalierRecommend ' .. words)
  local view = require('espalier.view')
  return Await(function() return view.of(0).request and table.concat(Lines(), '\n') or last() ~= '' and last() end)
end

local function complete(text)
  return vim.fn.getcompletion(text, 'cmdline')
end

function tests.a_recommendation_opens_as_a_table()
  Open(resnet)
  local plan = recommend('PR_L2 ratio=0.3')
  Contains(plan, 'digits_resnet.onnx: PR_L2, ratio 0.3')
  Contains(plan, 'parameters    179k  ->   96.3k  54%')
  Contains(plan, '/blocks/blocks.4/conv1/Conv  72  -> 38   -47%')
  Contains(plan, '/blocks/blocks.1/Add         24         stays')
  Contains(plan, '/classifier/Gemm: its channels are those of a model output')
  Equal({ #vim.api.nvim_list_wins(), vim.bo.modifiable, vim.bo.buftype }, { 2, false, 'nofile' })
  -- From the plan another can be asked for; it takes its place.
  vim.cmd('EspalierRecommend macs=0.5 step_size=1')
  Await(function() return Lines()[1]:find('0.5 of macs', 1, true) end, 'the other plan')
  Equal(#vim.api.nvim_list_wins(), 2)
end

function tests.ranks_of_a_decomposition_are_shown()
  Open(resnet)
  Contains(recommend('FD_TK ratio=0.3'), '/blocks/blocks.0/conv1/Conv  24 → 24  rank  11, 13')
end

function tests.methods_are_chosen_and_weights_fitted_anew()
  Open(resnet)
  local samples = ' dataset=' .. models .. '/digits_calibration.npy reconstruct=bias'
  local plan = recommend('automatic macs=0.3' .. samples)
  Contains(plan, 'digits_resnet.onnx: automatic, 0.3 of macs')
  Contains(plan, 'rank') -- of some layers, beside channels of others
  Contains(plan, '-> ')
  vim.cmd('EspalierCompress reconstruct=bias PR_L2 ratio=0.3 dry_run')
  await_message('dry run (refitted): parameters 179k ->')
  vim.cmd('EspalierRecommend automatic')
  await_message('automatic takes the size to reach, such as macs=0.5')
  Equal(complete('EspalierCompress reconstruct='), { 'reconstruct=bias', 'reconstruct=least_squares' })
end

function tests.compress_does_what_the_plan_shows()
  Open(resnet)
  recommend('PR_GM ratio=0.4 step_size=4')
  local output = scratch .. '/planned.onnx'
  vim.cmd('EspalierCompress verify output=' .. output)
  Contains(await_message('planned.onnx'), 'verified: exact')
  assert(vim.loop.fs_stat(output).size < vim.loop.fs_stat(resnet).size)
  local again
  local request = { model = resnet, compression_method = 'PR_GM', recommendation_method = 'SLAMP',
    recommendation_ratio = 0.4, options = { step_size = 4 }, output_path = scratch .. '/direct.onnx' }
  server.request('compress', request, 'Compressing', function(err, result) again = result or err end)
  Await(function() return again end, 'the same compression')
  Equal(vim.fn.readfile(output, 'b'), vim.fn.readfile(scratch .. '/direct.onnx', 'b'))
end

function tests.compress_leaves_existing_files_alone_without_a_bang()
  local model = scratch .. '/mine.onnx'
  vim.loop.fs_copyfile(resnet, model)
  Open(model)
  vim.cmd('EspalierCompress ratio=0.3')
  await_message('mine-compressed.onnx: parameters 179k -> 96.3k')
  vim.cmd('EspalierCompress ratio=0.3')
  Contains(await_message('output.exists: '), 'add ! to replace it')
  vim.cmd('EspalierCompress! ratio=0.5')
  await_message('mine-compressed.onnx: parameters 179k ->')
end

function tests.errors_tell_kind_and_message()
  Open(resnet)
  Contains(recommend('step_sise=4'), 'invalid /options/step_sise: ')
  Notified = {}
  vim.cmd('EspalierRecommend parameters=0.01')
  await_message('target.unreachable: ')
  vim.cmd('EspalierCompress PR_NN')
  await_message('dataset.required: ')
  vim.cmd('EspalierRecommend ratio=half')
  await_message('ratio=half is not a number')
  vim.cmd('EspalierRecommend what')
  await_message('what is what?')
  vim.cmd('EspalierInspect ratio=0.5')
  await_message('only a file and shape= are meant here')
  vim.cmd('enew | EspalierCompress')
  await_message('the current buffer shows no model')
end

function tests.a_compression_is_cancelled_and_leaves_nothing()
  Open(resnet)
  local output = scratch .. '/cancelled.onnx'
  vim.cmd('EspalierCompress PR_L2 verify output=' .. output)
  vim.cmd('EspalierCancel')
  await_message('cancelled')
  Equal({ vim.loop.fs_stat(output), espalier.statusline() }, { nil, '' })
  vim.cmd('EspalierCancel')
  await_message('nothing is running')
end

function tests.the_status_line_tells_how_far_it_is()
  Open(vim.env.ESPALIER_TEST_LARGE)
  local seen = {}
  vim.cmd('EspalierCompress FD_TK macs=0.5 output=' .. scratch .. '/large.onnx')
  Await(function()
    local text = espalier.statusline()
    seen[text] = true
    return text:find('%d+%%')
  end, 'a percentage')
  vim.cmd('EspalierCancel')
  await_message('cancelled')
  Equal(espalier.statusline(), '')
  assert(vim.tbl_count(seen) > 1)
end

function tests.words_are_completed()
  Open(resnet) -- a session tells the options
  Equal(complete('EspalierRecommend PR_G'), { 'PR_GM', 'PR_GROUP_L2' })
  Equal(complete('EspalierCompress ste'), { 'step_op=', 'step_size=' })
  Equal(complete('EspalierCompress step_op=round_'), { 'step_op=round_down', 'step_op=round_up' })
  Equal(complete('EspalierCompress onnx'), { 'onnx_output=' })
  vim.fn.writefile({}, scratch .. '/somewhere.onnx')
  Equal(complete('EspalierCompress output=' .. scratch .. '/somew'), { 'output=' .. scratch .. '/somewhere.onnx' })
  vim.fn.mkdir(scratch .. '/two words')
  Equal(complete('EspalierCompress output=' .. scratch .. '/two'), { 'output=' .. scratch .. '/two\\ words/' })
  vim.cmd('EspalierCompress ratio=0.5 output=' .. scratch .. '/two\\ words/x.onnx')
  await_message('x.onnx: parameters')
  assert(vim.loop.fs_stat(scratch .. '/two words/x.onnx'))
  assert(vim.tbl_contains(complete('EspalierInspect ' .. models .. '/digits_'), models .. '/digits_resnet.pt'))
end

function tests.a_daemon_that_dies_is_started_again()
  Open(resnet)
  Equal(server.session().kind, 'private')
  local reached
  server.request('ping', {}, 'Asking', function(err) reached = err or true end)
  Await(function() return reached end)
  Equal(reached, true)
  local children = vim.api.nvim_get_proc_children(vim.fn.getpid())
  Equal(#children, 1)
  vim.loop.kill(children[1], 'sigkill')
  Await(function() return server.session() == nil end, 'the end of the session')
  vim.cmd('EspalierRecommend ratio=0.3')
  Await(function() return require('espalier.view').of(0).request end, 'the plan')
end

function tests.requests_in_flight_hear_of_the_daemons_death()
  Open(vim.env.ESPALIER_TEST_LARGE)
  vim.cmd('EspalierCompress PR_GM output=' .. scratch .. '/never.onnx')
  vim.loop.kill(vim.api.nvim_get_proc_children(vim.fn.getpid())[1], 'sigkill')
  await_message('server.stopped: ')
  Equal(espalier.statusline(), '')
end

function tests.no_daemon_is_said_in_words()
  espalier.setup({ server = scratch .. '/nowhere' })
  local shown = Open(resnet)
  Equal(shown.error.data.kind, 'server.notFound')
  Contains(table.concat(Lines(), '\n'), 'nowhere is no program that can be run')
  Equal(pcall(espalier.setup, { sever = 'x' }), false)
end

function tests.a_program_that_is_no_daemon_is_said_too()
  espalier.setup({ server = '/bin/false' })
  Equal(Open(resnet).error.data.kind, 'server.stopped')
end

function tests.a_running_shared_daemon_is_used_and_left_running()
  local socket = scratch .. '/shared.sock'
  local job = vim.fn.jobstart({ vim.env.ESPALIER_SERVER, '--pipe', socket })
  local listens
  Await(function()
    require('espalier.socket').connect(socket, function(pipe) listens = pipe end)
    return listens
  end, 'the daemon')
  listens:close()
  espalier.setup({ socket = socket })
  Open(resnet)
  Equal(server.session().kind, 'shared')
  recommend('ratio=0.3')
  server.request('compress', { model = resnet, compression_method = 'PR_L2', recommendation_method = 'SLAMP',
    recommendation_ratio = 0.5, verify = true, output_path = scratch .. '/x.onnx' }, 'Compressing', function() end)
  server.stop()
  Equal(vim.fn.jobwait({ job }, 200), { -1 })
  vim.fn.jobstop(job)
  vim.fn.jobwait({ job })
  -- Gone, it is replaced by one of our own.
  vim.cmd('wincmd p | edit')
  Await(function() return require('espalier.view').of(0).outline end, 'the outline')
  Equal(server.session().kind, 'private')
end

function tests.messages_survive_every_way_of_cutting_the_stream()
  local bodies = { '{"a":1}', '"→"', ('x'):rep(5000), 'null' }
  local stream = ''
  for _, body in ipairs(bodies) do
    stream = stream .. string.format('Content-Type: x\r\ncontent-length: %d\r\n\r\n%s', #body, body)
  end
  for _, size in ipairs({ 1, 2, 7, 40, 1000, #stream }) do
    local found = {}
    local parse = require('espalier.socket').parser(function(body) table.insert(found, body) end)
    for at = 1, #stream, size do
      parse(stream:sub(at, at + size - 1))
    end
    Equal(found, bodies)
  end
  Equal(pcall(require('espalier.socket').parser(print), 'hello\r\n\r\n'), false)
end

function tests.health_tells_what_is_used()
  Open(resnet)
  vim.cmd('checkhealth espalier')
  local text = table.concat(Lines(), '\n')
  Contains(text, vim.env.ESPALIER_SERVER)
  Contains(text, 'private')
end
