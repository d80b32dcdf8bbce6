import ModelGraph

/// The classes and functions that a model file may name, and what it may do with each.
///
/// Whoever loads the file with PyTorch imports and calls what it names; a file that names anything else is refused whole,
/// because a copy of it would carry the same names to the next reader. Invariant: nothing here runs code that is given to
/// it but `reduce_graph_module`, whose code text is held to a grammar of its own.
package enum AllowedGlobals {
  struct Use: OptionSet {
    let rawValue: Int
    /// May be referred to.
    static let value = Use(rawValue: 1)
    /// May be called.
    static let reduce = Use([.value, Use(rawValue: 2)])
    /// May be instantiated without a call.
    static let newObject = Use([.value, Use(rawValue: 4)])
    /// Its results may get entries, and a state.
    static let items = Use(rawValue: 8)
    static let state = Use(rawValue: 16)
  }

  /// What may be done with a global; nil if it may not occur, except as a tracer (`isTracerName`).
  static func use(module: String, name: String) -> Use? {
    if let use = exact[module + " " + name] { return use }
    guard isClassName(name) else { return nil }
    // Any module of torch.nn can be a leaf of a traced network. Classes only: their files import functions as well.
    guard module.hasPrefix("torch.nn.modules."), isModuleName(module) else { return nil }
    return [.newObject, .state]
  }

  /// Whether a global can be the tracer class that a GraphModule was made with, which may be a user's own: a class name
  /// from a module that is not Python's own. It is kept as a name and never called.
  static func isTracerName(module: String, name: String) -> Bool {
    guard isModuleName(module), isClassName(name) else { return false }
    let root = module.prefix { $0 != "." }
    return !pythonModules.contains(String(root)) && (root != "torch" || module.hasPrefix("torch.fx."))
  }

  /// The key under which a GraphModule keeps its tracer class.
  static let tracerKey = "_tracer_cls"

  /// What layers of torch.nn that are given a function keep of it (`torch.nn.TransformerEncoderLayer`): numbers go in and
  /// come out.
  private static let activations: Set<String> = {
    let names = [
      "relu", "relu6", "silu", "mish", "leaky_relu", "elu", "selu", "celu", "hardswish", "hardsigmoid", "tanh",
      "sigmoid",
    ]
    return Set(names.map { "torch.nn.functional \($0)" } + ["torch._C._nn gelu"])
  }()

  /// The operator that a global is as a module's activation; nil for everything else.
  static func activation(module: String, name: String) -> String? {
    activations.contains(module + " " + name) ? name : nil
  }

  private static let exact: [String: Use] = {
    var uses: [String: Use] = [
      "torch.fx.graph_module reduce_graph_module": .reduce,
      "torch.fx._symbolic_trace Tracer": .value,
      "collections OrderedDict": [.reduce, .items, .state],
      "torch Size": .reduce,
      "torch device": .reduce,
      "torch.nn.parameter Parameter": .value,
      "torch.utils._pytree TreeSpec": [.reduce, .newObject, .state],
      "torch.utils._pytree LeafSpec": [.reduce, .newObject, .state],
    ]
    for name in [
      "_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_tensor_v2", "_rebuild_tensor_v3",
      "_rebuild_qtensor",
    ] {
      uses["torch._utils \(name)"] = .reduce
    }
    // Python 2's name is what protocol 2 writes for the other.
    for module in ["builtins", "__builtin__"] {
      uses["\(module) set"] = .reduce
      for name in ["tuple", "list", "dict", "int", "float", "bool", "str"] { uses["\(module) \(name)"] = .value }
    }
    for name in ["Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"] {
      uses["torch \(name)Storage"] = .value
    }
    for name in ["ComplexFloat", "ComplexDouble", "QInt8", "QUInt8", "QInt32"] { uses["torch \(name)Storage"] = .value }
    uses["torch.storage UntypedStorage"] = .value
    for name in [
      "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
      "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "int64", "int32", "int16", "int8", "uint64", "uint32",
      "uint16", "uint8", "bool", "complex64", "complex128", "qint8", "quint8", "qint32",
    ] {
      uses["torch \(name)"] = .value
    }
    for function in activations { uses[function] = .value }
    for name in ["contiguous_format", "channels_last", "channels_last_3d", "preserve_format", "strided"] {
      uses["torch \(name)"] = .value
    }
    return uses
  }()

  /// Modules of Python's library through which a name does something.
  private static let pythonModules: Set<String> = [
    "__builtin__", "_io", "_posixsubprocess", "_thread", "antigravity", "ast", "asyncio", "atexit", "bdb", "builtins",
    "cgitb", "cmd", "code", "codecs", "codeop", "commands", "concurrent", "contextlib", "copy", "copyreg", "cProfile",
    "ctypes", "dill", "cloudpickle", "doctest", "ensurepip", "fileinput", "ftplib", "functools", "gc", "glob", "http",
    "idlelib", "imaplib", "imp", "importlib", "inspect", "io", "itertools", "joblib", "lib2to3", "linecache", "logging",
    "marshal", "mmap", "multiprocessing", "nt", "ntpath", "numpy", "operator", "os", "pathlib", "pdb", "pickle",
    "pickletools", "pip", "pkgutil", "platform", "poplib", "popen2", "posix", "posixpath", "profile", "pty",
    "py_compile", "pydoc", "queue", "runpy", "sched", "select", "setuptools", "shelve", "shutil", "signal", "site",
    "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "this", "threading",
    "timeit", "trace", "turtle", "types", "unittest", "urllib", "uuid", "venv", "weakref", "webbrowser", "wsgiref",
    "xmlrpc", "zipapp", "zipimport",
  ]

  private static func isModuleName(_ text: String) -> Bool {
    text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { isIdentifier($0) }
  }

  /// Classes are told from functions by their first letter, underscores aside.
  private static func isClassName(_ text: String) -> Bool {
    guard isIdentifier(text[...]), let first = text.utf8.first(where: { $0 != UInt8(ascii: "_") }) else { return false }
    return (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(first)
  }

  private static func isIdentifier(_ text: Substring) -> Bool {
    guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else { return false }
    return text.utf8.allSatisfy {
      switch $0 {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        true
      default: false
      }
    }
  }
}

extension Failure {
  /// A class or function that no model may name, or not in this way.
  static func forbiddenGlobal(module: String, name: String, _ reason: String, at offset: Int) -> Failure {
    let shown = String((module + "." + name).prefix(200))
    return Failure(
      .modelUnsafe,
      "the file \(reason) \(shown) (at byte \(offset)), which no network of torch.nn needs; nothing in it was executed",
      details: ["global": .string(shown), "offset": .int(offset)])
  }
}
