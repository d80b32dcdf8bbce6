import ModelGraph

/// The lines before a GraphModule's code, which import what the code names.
///
/// Python executes them when the file is loaded, and importing a module runs it. Invariant: every line is one that
/// torch.fx writes, and names only modules of PyTorch, of the model libraries beside it, and the few of Python's own
/// that hold types and arithmetic.
struct CodeImports {
  /// What imported names stand for: the function's name as a call has it, nil for what is none (types).
  private(set) var functions = NameTable<String?>()

  /// Modules imported by themselves, with the names they get.
  private static let modules: [(module: StaticString, name: StaticString?)] = [
    ("torch", nil), ("torch.fx", nil), ("torch.fx._symbolic_trace", nil), ("torch.fx._pytree", "fx_pytree"),
    ("torch.utils._pytree", "pytree"), ("math", nil), ("operator", nil), ("typing", nil),
  ]

  /// Python's own functions on numbers, tuples and attributes.
  private static let builtins: Set<String> = [
    "getattr", "len", "max", "min", "abs", "sum", "round", "int", "float", "bool", "tuple", "list", "range", "slice",
  ]

  /// Types, which annotations name.
  private static let builtinTypes: Set<String> = [
    "str", "dict", "set", "frozenset", "object", "complex", "bytes", "type",
  ]

  /// Functions on tensors that the model libraries keep from being traced (`torch.fx.wrap`, timm's
  /// `register_notrace_function`), and the tuples that their models return; by the module they are in or below.
  private static let libraries: [(module: String, names: Set<String>)] = [
    ("einops", ["rearrange", "reduce", "repeat", "einsum", "pack", "unpack"]),
    (
      "timm",
      [
        "maybe_add_mask", "resolve_self_attn_mask", "resample_abs_pos_embed", "resample_abs_pos_embed_nhwc",
        "scale_image", "window_partition", "window_reverse", "window_partition_nchw", "window_reverse_nchw",
        "grid_partition", "grid_reverse", "grid_partition_nchw", "grid_reverse_nchw", "get_rel_pos", "blockify",
        "deblockify", "global_pool_naflex", "reshape_pre_pool", "reshape_post_pool", "cal_rel_pos_type",
        "resample_pos_embed_grid", "get_resized_mask", "get_mixed_grid", "make_coords_dinov3",
      ]
    ),
    (
      "torchvision.models",
      [
        "_patch_merging_pad", "_get_relative_position_bias", "shifted_window_attention", "shifted_window_attention_3d",
        "_get_window_and_shift_size", "_compute_pad_size_3d", "_compute_attention_mask_3d", "_unsqueeze", "_squeeze",
        "_add_rel_pos", "_add_shortcut", "GoogLeNetOutputs", "InceptionOutputs",
      ]
    ),
    (
      "torchvision.ops",
      [
        "stochastic_depth", "drop_block2d", "drop_block3d", "nms", "batched_nms", "roi_align", "roi_pool",
        "ps_roi_align", "ps_roi_pool", "deform_conv2d", "box_convert", "box_area", "box_iou", "clip_boxes_to_image",
        "remove_small_boxes", "sigmoid_focal_loss",
      ]
    ),
  ]

  /// - Parameter text: as the pickle holds it; the last line need not end.
  init(_ text: ByteSpan) throws(Failure) {
    var scanner = CodeScanner(text, name: "the model's import block")
    while !scanner.isAtEnd {
      if scanner.byte != Ascii.newline {
        if scanner.take("NoneType = type(None)") {
        } else if scanner.take("import ") {
          try module(&scanner)
        } else {
          try scanner.expect("from ")
          try name(&scanner)
        }
      }
      try scanner.expectLineEnd()
    }
  }

  /// `import M` or `import M as N`.
  private func module(_ scanner: inout CodeScanner) throws(Failure) {
    let start = scanner.position
    let module = try Self.dotted(&scanner)
    var name: ByteSpan?
    if scanner.take(" as ") { name = scanner.span(try scanner.identifier()) }
    let isKnown = Self.modules.contains { known in
      guard scanner.span(module).equals(known.module) else { return false }
      guard let name else { return known.name == nil }
      return known.name.map { name.equals($0) } ?? false
    }
    guard isKnown else { throw Self.refused(scanner.string(module), scanner, at: start) }
  }

  /// `from M import N` or `from M import N as K`.
  private mutating func name(_ scanner: inout CodeScanner) throws(Failure) {
    let start = scanner.position
    let module = scanner.string(try Self.dotted(&scanner))
    try scanner.expect(" import ")
    let imported = try scanner.identifier()
    var bound = imported
    if scanner.take(" as ") { bound = try scanner.identifier() }
    let name = scanner.string(imported)
    guard !name.utf8.starts(with: "__".utf8), let function = Self.function(module, name) else {
      throw Self.refused(module + "." + name, scanner, at: start)
    }
    functions[scanner.span(bound)] = function
  }

  /// The name of what is imported as a function, `.some(nil)` if it is none but may be imported; nil if it may not.
  private static func function(_ module: String, _ name: String) -> String?? {
    switch module {
    case "math": return .some(["inf", "nan", "pi", "e", "tau"].contains(name) ? nil : "math_" + name)
    case "torch": return name == "device" ? .some(nil) : nil
    case "typing", "types", "collections": return .some(nil)
    case "builtins":
      return builtins.contains(name) ? .some(name) : builtinTypes.contains(name) ? .some(nil) : nil
    case "operator", "_operator":
      return ["methodcaller", "attrgetter", "itemgetter", "call"].contains(name) ? nil : .some(name)
    default:
      let isKnown = libraries.contains { library in
        (module == library.module || module.hasPrefix(library.module + ".")) && library.names.contains(name)
      }
      // As torch.fx names it in the code.
      let qualified = (module + "." + name).split(separator: ".").joined(separator: "_")
      return isKnown ? .some(qualified) : nil
    }
  }

  private static func dotted(_ scanner: inout CodeScanner) throws(Failure) -> Range<Int> {
    let first = try scanner.identifier()
    while scanner.byte == Ascii.dot {
      scanner.move(to: scanner.position + 1)
      _ = try scanner.identifier()
    }
    return first.lowerBound..<scanner.position
  }

  private static func refused(_ name: String, _ scanner: CodeScanner, at position: Int) -> Failure {
    var scanner = scanner
    scanner.move(to: position)
    return Failure(
      .modelUnsafe,
      "the model's code imports '\(name)', and loading the file in PyTorch would run it; functions are taken from"
        + " torch, torchvision, timm, einops, math and operator alone: trace the model without the function that"
        + " torch.fx.wrap keeps, or save it with torch.export as .pt2",
      details: ["import": .string(name)])
  }
}
