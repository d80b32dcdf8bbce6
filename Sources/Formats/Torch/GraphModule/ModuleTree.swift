import ModelGraph

/// The modules of a GraphModule with their settings, parameters and buffers: what `self` is for its code.
///
/// Invariant: every tensor's claim about the file was checked (`TensorStorage`), and what one object is in the file has
/// one tensor here, whatever names it has.
struct ModuleTree {
  /// By path; the root is not among them.
  private(set) var modules: [String: TorchModule] = [:]
  /// What describes each of them in the pickle.
  private(set) var nodes: [String: PickleNode] = [:]
  /// Parameters and buffers by state-dict name, and tensors that are attributes by the name they would have.
  private(set) var tensors: [String: StoredTensor] = [:]
  /// GraphModules among the modules: their code is run as well.
  private(set) var nested: [(path: String, object: GraphModuleObject)] = []
  /// Settings of the root.
  private var rootAttributes: [String: TorchArgument] = [:]
  private var moduleCount = 0
  /// Before every path that is looked up.
  private var base = ""

  /// Far more than any network has; a pickle can say a module once and mean it a million times.
  private static let moduleLimit = 100_000
  private static let deepestNesting = 100

  /// - Parameter body: the attributes of the GraphModule.
  init(_ body: PickleNode, storage: inout TensorStorage, work: Work) throws(Failure) {
    let contents = try contents(of: body, path: "", depth: 0, storage: &storage, work: work)
    rootAttributes = contents.attributes
  }

  // MARK: Looking up

  /// The tree as the module at `path` sees it.
  func below(_ path: String) -> ModuleTree { ModuleTree(modules: modules, tensors: tensors, base: path + ".") }

  private init(modules: [String: TorchModule], tensors: [String: StoredTensor], base: String) {
    (self.modules, self.tensors, self.base) = (modules, tensors, base)
  }

  func module(at path: String) -> TorchModule? { modules[base + path] }

  /// A parameter, a buffer, or a setting that is a plain value.
  func value(at name: String) -> TorchArgument? {
    let path = base + name
    if tensors[path] != nil { return .parameter(path) }
    guard let dot = path.utf8.lastIndex(of: Ascii.dot) else { return rootAttributes[path] }
    return modules[String(path[..<dot])]?.attributes[String(path[path.utf8.index(after: dot)...])]
  }

  /// The paths under which the module at `path` is found: one object can have several.
  func paths(ofSameModuleAs path: String) -> Set<String> {
    guard let node = nodes[path] else { return [path] }
    return Set(nodes.filter { $0.value === node }.keys)
  }

  // MARK: Reading

  private struct Contents {
    var attributes: [String: TorchArgument] = [:]
    var parameters: [String: String?] = [:]
    var children: [TorchModule] = []
  }

  /// Keys of a module that are no settings.
  private static let ownKeys: Set<String> = [
    "training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_code", "code", "_lineno_map",
    "_prologue_start", "_tracer_cls", "_tracer_extras", "meta", "shape_env", "_replace_hook", "_graphmodule_cls_name",
    "_is_full_backward_hook", "_load_state_dict_post_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
  ]

  /// Functions that run whenever the module does; the network would not be what its code says.
  private static let hookKeys: Set<String> = [
    "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
  ]

  private mutating func contents(
    of state: PickleNode, path: String, depth: Int, storage: inout TensorStorage, work: Work
  ) throws(Failure) -> Contents {
    guard depth <= Self.deepestNesting else {
      throw Failure(.resourceLimit, "the model's modules are nested deeper than \(Self.deepestNesting) levels")
    }
    guard let entries = state.dictionaryEntries else { throw .moduleMalformed(path, "no attributes") }
    var contents = Contents()
    // No key is there twice (`PickleCheck`).
    for (key, value) in entries {
      guard let name = key.string else { throw .moduleMalformed(path, "an attribute whose name is no text") }
      switch name {
      case "_parameters", "_buffers":
        try addTensors(
          value, path: path, isBuffer: name == "_buffers", storage: &storage, to: &contents.parameters)
      case "_modules":
        contents.children = try children(value, path: path, depth: depth, storage: &storage, work: work)
      case let name where Self.hookKeys.contains(name):
        guard value.isEmptyCollection else { throw .hooks(path, name) }
      case let name where Self.ownKeys.contains(name) || name.hasSuffix("_hooks"): break
      default:
        if TensorStorage.isTensor(value) {
          let full = path.isEmpty ? name : path + "." + name
          tensors[full] = try storage.tensor(value, name: full, isBuffer: true)
        } else if let attribute = TorchArgument(value) {
          contents.attributes[name] = attribute
        }
      }
    }
    return contents
  }

  private mutating func addTensors(
    _ node: PickleNode, path: String, isBuffer: Bool, storage: inout TensorStorage,
    to parameters: inout [String: String?]
  ) throws(Failure) {
    guard let entries = node.dictionaryEntries else {
      throw .moduleMalformed(path, "parameters that are no dictionary")
    }
    for (key, value) in entries {
      guard let name = key.string, Self.isName(name) else {
        throw .moduleMalformed(path, "a parameter whose name is no text or has a dot")
      }
      let full = path.isEmpty ? name : path + "." + name
      if value.isNone {
        parameters[name] = .some(nil)
      } else {
        guard tensors.updateValue(try storage.tensor(value, name: full, isBuffer: isBuffer), forKey: full) == nil else {
          throw .moduleMalformed(path, "two parameters '\(name)'")
        }
        parameters[name] = full
      }
    }
  }

  private mutating func children(
    _ node: PickleNode, path: String, depth: Int, storage: inout TensorStorage, work: Work
  ) throws(Failure) -> [TorchModule] {
    guard let entries = node.dictionaryEntries else { throw .moduleMalformed(path, "children that are no dictionary") }
    var children: [TorchModule] = []
    for (key, value) in entries {
      guard let name = key.string, Self.isName(name) else {
        throw .moduleMalformed(path, "a child whose name is no text or has a dot")
      }
      if value.isNone { continue }
      if name == "parametrizations" { throw .hooks(path, name) }
      moduleCount += 1
      if moduleCount % 256 == 0 { try work.checkCancellation() }
      guard moduleCount <= Self.moduleLimit else {
        throw Failure(
          .resourceLimit, "the model has more than \(Self.moduleLimit) modules",
          details: ["limit": .int(Self.moduleLimit)])
      }
      let full = path.isEmpty ? name : path + "." + name
      children.append(try child(value, path: full, depth: depth, storage: &storage, work: work))
    }
    return children
  }

  private mutating func child(
    _ node: PickleNode, path: String, depth: Int, storage: inout TensorStorage, work: Work
  ) throws(Failure) -> TorchModule {
    let className: String
    let state: PickleNode
    if let graphModule = GraphModuleObject(node) {
      (className, state) = ("GraphModule", graphModule.body)
      nested.append((path, graphModule))
    } else if let call = node.call, case .newObject = call.kind, case .global(let module, let name) = call.callee.kind,
      module.hasPrefix("torch.nn."), call.arguments.tuple?.isEmpty == true, let own = call.state
    {
      (className, state) = (name, own)
    } else {
      throw .moduleMalformed(path, "no module of torch.nn in its place")
    }
    let contents = try contents(of: state, path: path, depth: depth + 1, storage: &storage, work: work)
    let module = TorchModule(
      className: className, path: path, attributes: contents.attributes, parameters: contents.parameters,
      children: contents.children)
    guard modules.updateValue(module, forKey: path) == nil else { throw .moduleMalformed(path, "two modules") }
    nodes[path] = node
    return module
  }

  private static func isName(_ name: String) -> Bool { !name.isEmpty && !name.utf8.contains(Ascii.dot) }
}

/// `reduce_graph_module(body, import_block)`.
struct GraphModuleObject {
  let body: PickleNode
  let imports: PickleNode

  init?(_ node: PickleNode) {
    guard let call = node.call, case .reduce = call.kind,
      call.callee.isGlobal("torch.fx.graph_module", "reduce_graph_module"), let arguments = call.arguments.tuple,
      arguments.count == 2
    else { return nil }
    (body, imports) = (arguments[0], arguments[1])
  }

  /// The node of the Python text; the oldest files have it under another key.
  var code: PickleNode? { body["_code"] ?? body["code"] }
}

extension PickleNode {
  fileprivate var isEmptyCollection: Bool {
    switch kind {
    case .none: true
    case .list(let nodes), .tuple(let nodes), .set(let nodes): nodes.isEmpty
    default: dictionaryEntries?.isEmpty ?? false
    }
  }
}

extension TorchArgument {
  /// A plain value of a pickle, nil for everything else.
  init?(_ node: PickleNode) {
    guard let value = Self.value(node, depth: 0) else { return nil }
    self = value
  }

  private static func value(_ node: PickleNode, depth: Int) -> TorchArgument? {
    guard depth < 8 else { return nil }
    func all(_ nodes: [PickleNode]) -> [TorchArgument]? {
      // Settings are short lists; what is longer is data.
      guard nodes.count <= 4096 else { return nil }
      let values = nodes.compactMap { value($0, depth: depth + 1) }
      return values.count == nodes.count ? values : nil
    }
    switch node.kind {
    case .none: return TorchArgument.none
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .float(let value): return .float(value)
    case .string(let text): return .string(text)
    case .tuple(let nodes): return all(nodes).map { .tuple($0) }
    case .list(let nodes): return all(nodes).map { .list($0) }
    case .global("torch", let name) where CodeVocabulary.constants.contains(name): return .symbol("torch." + name)
    case .global(let module, let name):
      return AllowedGlobals.activation(module: module, name: name).map { .symbol($0) }
    case .call where node.calleeName == "torch.Size": return node.ints.map { .tuple($0.map { .int($0) }) }
    default: return nil
    }
  }
}

extension Failure {
  static func moduleMalformed(_ path: String, _ what: String) -> Failure {
    Failure(
      .modelMalformed, "the module '\(path)' has \(what); the file is damaged or was not written by PyTorch",
      details: ["module": .string(path)])
  }

  static func hooks(_ path: String, _ name: String) -> Failure {
    Failure(
      .modelUnsupportedOperator,
      "the module '\(path)' has \(name): functions that change its weights or inputs whenever it runs; make them"
        + " permanent first (torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.prune.remove,"
        + " torch.nn.utils.remove_spectral_norm, hook.remove()), then trace and save the model again",
      details: ["module": .string(path), "attribute": .string(name)])
  }
}
