-- What the editor loads at start: commands, and model files shown as outlines. All code is loaded when first used.
if vim.g.loaded_espalier or vim.fn.has('nvim-0.7') == 0 then
  return
end
vim.g.loaded_espalier = true

vim.api.nvim_create_autocmd('BufReadCmd', {
  group = vim.api.nvim_create_augroup('espalier', {}),
  pattern = { '*.onnx', '*.pt', '*.pt2', '*.keras', '*.h5', '*.hdf5' },
  desc = 'Show a neural network as an outline',
  callback = function(event)
    require('espalier.view').read(event.buf, event.match)
  end,
})

local function command(name, action, attributes)
  if attributes.nargs then
    attributes.complete = function(...)
      return require('espalier.commands').complete(name, ...)
    end
  end
  vim.api.nvim_create_user_command(name, function(arguments)
    require('espalier.commands')[action](arguments)
  end, attributes)
end

command('EspalierInspect', 'inspect', { nargs = '*', desc = 'Outline of a model: [file] [shape=N,N,...]' })
command('EspalierRecommend', 'recommend', { nargs = '*', desc = 'What a compression would do: [METHOD] [ratio=R] ...' })
command('EspalierCompress', 'compress', {
  nargs = '*',
  bang = true,
  desc = 'Write a compressed model: [METHOD] [ratio=R] [output=PATH] ...; with ! over an existing file',
})
command('EspalierCancel', 'cancel', { desc = 'Cancel what espalierd is doing for this editor' })
