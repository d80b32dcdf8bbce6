import ModelGraph

/// What a GraphModule's code may name of PyTorch: its operators and its constants.
///
/// Whoever loads the file runs the code, so a name is taken only where it can be nothing but an operator on tensors or
/// a plain value: these are the only places in which torch.fx finds its functions, and what reads files, makes code,
/// changes settings or reaches into the interpreter bears one of the refused names there (PyTorch 2.13: every callable
/// of these namespaces that is no operator was looked at).
enum CodeVocabulary {
  /// Values of PyTorch that an argument can be: `torch.` and one of these.
  static let constants: Set<String> = [
    "float", "float16", "float32", "float64", "half", "double", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "int", "int8", "int16", "int32", "int64", "short", "long",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex32", "complex64", "complex128", "cfloat", "cdouble",
    "strided",
    "sparse_coo", "contiguous_format", "channels_last", "channels_last_3d", "preserve_format",
  ]

  /// Namespaces whose public names are functions on tensors.
  private static let publicNamespaces: Set<String> = [
    "torch", "torch.functional", "torch.nn.functional", "torch.special", "torch.linalg", "torch.fft", "torch.Tensor",
  ]

  /// Namespaces of operators alone, whose names may start with an underscore.
  private static let operatorNamespaces: Set<String> = [
    "torch._C._nn", "torch._C._special", "torch._C._linalg", "torch._C._fft", "torch.ops.aten", "torch.ops.torchvision",
  ]

  /// Functions of `torch` itself whose names start with an underscore.
  private static let underscored: Set<Substring> = ["_assert", "_shape_as_tensor", "_weight_norm"]

  private static let unfoldings: [Substring: String] = ["unfold": "im2col", "fold": "col2im"]

  private static let refusedNames: Set<String> = [
    // Files, code, processes, the interpreter.
    "load", "save", "compile", "fork", "wait", "from_file", "from_dlpack", "to_dlpack", "from_numpy", "frombuffer",
    "numpy", "storage", "untyped_storage", "storage_type", "data_ptr", "const_data_ptr", "tofile", "dump", "dumps",
    "share_memory", "record_stream", "pin_memory", "as_subclass", "module_load", "grad_fn", "ctypes", "base",
    "get_file_path", "get_device_module", "merge_type_from_type_comment", "typename", "classproperty",
    // What takes functions.
    "vmap", "cond", "while_loop", "apply", "map", "map2", "register_hook", "register_post_accumulate_grad_hook",
    "boolean_dispatch", "handle_torch_function", "has_torch_function", "assert_int_or_pair",
    // State of PyTorch itself, of the program's randomness and of gradients.
    "seed", "manual_seed", "initial_seed", "backward", "retain_grad", "reinforce", "set",
  ]

  private static let refusedPrefixes = [
    "set_", "use_", "import_", "prepare_", "init_", "parse_", "autocast_", "profiler_", "clear_", "unify_", "get_rng",
    "load_",
  ]

  /// The operator that `qualified` names ("torch.nn.functional.relu": "relu"), nil where it is none.
  static func function(_ qualified: ByteSpan) -> String? {
    let parts = qualified.displayName.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count >= 2 else { return nil }
    // An operator of torch.ops can have its overload behind it.
    let hasOverload = parts.count == 5 && parts[1] == "ops"
    let (namespace, name) = (parts.dropLast(hasOverload ? 2 : 1), parts[parts.count - (hasOverload ? 2 : 1)])
    let joined = namespace.joined(separator: ".")
    if operatorNamespaces.contains(joined) {
      return name.hasPrefix("__") || isRefused(name) ? nil : operatorName(name)
    }
    guard publicNamespaces.contains(joined) else { return nil }
    // A tensor's method of that name is another function.
    if joined == "torch.nn.functional", let operation = unfoldings[name] { return operation }
    if joined == "torch", underscored.contains(name) { return String(name) }
    return operation(name)
  }

  /// The operator that a tensor's method or a public function is, nil where it is none.
  static func operation(_ name: Substring) -> String? {
    guard let first = name.utf8.first, first != Ascii.underscore, first | 0x20 == first, !isRefused(name) else {
      return nil
    }
    return operatorName(name)
  }

  /// Whether the attribute can be read of a tensor.
  static func isAttribute(_ name: Substring) -> Bool {
    name.utf8.first != Ascii.underscore && !isRefused(name)
  }

  private static func isRefused(_ name: Substring) -> Bool {
    let name = isInPlace(name) ? name.dropLast() : name
    return refusedNames.contains(String(name)) || refusedPrefixes.contains { name.hasPrefix($0) }
  }

  /// "relu" for "relu_".
  private static func operatorName(_ name: Substring) -> String { String(isInPlace(name) ? name.dropLast() : name) }

  private static func isInPlace(_ name: Substring) -> Bool {
    name.utf8.last == Ascii.underscore && !name.hasSuffix("__")
  }

  /// Whether the operator of that name changes its first argument.
  static func isInPlace(_ name: ByteSpan) -> Bool {
    let bytes = name.buffer
    return bytes.last == Ascii.underscore && bytes.count > 1 && bytes[bytes.count - 2] != Ascii.underscore
  }
}
