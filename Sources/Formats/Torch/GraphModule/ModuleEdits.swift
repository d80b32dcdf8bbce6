import ModelGraph

/// Changes to the modules of a GraphModule: settings, parameters that come and go, and rows of layers in the place of
/// one.
///
/// Invariant: a module keeps its kind, the order of its attributes and the kinds of its dictionaries; a setting keeps
/// its type (a tuple stays a tuple, a number a number).
struct ModuleEdits {
  /// By the node of a module: what it becomes, in order.
  private(set) var edits: [ObjectIdentifier: [PickleNode.Edit]] = [:]
  private let document: GraphModuleDocument
  /// Whether tensors go, with what held them.
  private(set) var dropsTensors = false
  private var replacedModules: Set<ObjectIdentifier> = []
  private var settings: [ObjectIdentifier: [(name: String, value: TorchArgument)]] = [:]

  init(_ document: GraphModuleDocument) { self.document = document }

  // MARK: Settings

  mutating func set(_ path: String, _ name: String, _ value: TorchArgument) throws(Failure) {
    let node = try node(at: path)
    guard node.state?[name] != nil else { throw misfit("a setting '\(name)' of '\(path)'") }
    if settings[node.id, default: []].contains(where: { $0.name == name && $0.value == value }) { return }
    settings[node.id, default: []].append((name, value))
    edits[node.id, default: []].append { module in
      guard let state = module.state, let old = state[name], let new = Self.value(value, like: old) else {
        return module
      }
      return module.settingState(state.setting(name, to: new))
    }
  }

  /// A plain value of the same type as `old` where one can stand for the other.
  private static func value(_ value: TorchArgument, like old: PickleNode) -> PickleNode? {
    switch value {
    case .tuple(let elements), .list(let elements):
      if old.int != nil, elements.count == 1 { return Self.value(elements[0], like: old) }
      let nodes = elements.compactMap { Self.value($0, like: .none) }
      guard nodes.count == elements.count else { return nil }
      return old.list == nil ? .tuple(nodes) : .list(nodes)
    case .int(let number):
      if let old = old.tuple, old.count == 1 { return .tuple([number]) }
      if let old = old.list, old.count == 1 { return .list([.int(number)]) }
      return .int(number)
    case .none: return PickleNode.none
    case .bool(let value): return .bool(value)
    case .float(let value): return .float(value)
    case .string(let text): return .string(text)
    case .reference, .parameter, .symbol, .dictionary, .slice, .ellipsis: return nil
    }
  }

  // MARK: Layers

  /// A row of layers takes the place of the module at `path`.
  mutating func replace(
    _ path: String, by replacement: TorchReplacement, storage: inout StorageEdits
  ) throws(Failure) {
    let node = try node(at: path)
    // A module with two names, or called twice, is one.
    guard replacedModules.insert(node.id).inserted else { return }
    dropsTensors = true
    guard let state = node.state, let parameters = state["_parameters"], let weight = parameters["weight"] else {
      throw misfit("another layer for '\(path)', which has no weight")
    }
    let original = try OriginalLayer(state, path: path)
    var layers: [LayerModule] = []
    for (index, layer) in replacement.layers.enumerated() {
      let new = try storage.newParameter(layer.weight, like: weight)
      var bias: LayerModule.Bias = .none
      switch layer.bias {
      case .none: break
      case .original: bias = .original
      case .new(let tensor): bias = .new(try storage.newParameter(tensor, like: weight))
      }
      layers.append(
        LayerModule(
          layer, weight: new, bias: bias, padding: original.padding(of: replacement.layers, at: index),
          paddingMode: original.paddingMode))
    }
    edits[node.id, default: []].append { module in
      guard let state = module.state else { return module }
      let base = ModuleState(state)
      // The bias as other edits leave it.
      let bias = state["_parameters"]?["bias"] ?? .none
      let children = layers.map { ($0.name, $0.node(base, originalBias: bias)) }
      return .newObject(
        .global("torch.nn.modules.container", "Sequential"), state: base.state(children: children))
    }
  }

  /// Parameters take the place of one in the module at `path`, "" for the GraphModule itself.
  mutating func replaceParameter(
    _ name: String, of path: String, by parameters: [(name: String, node: PickleNode)]
  ) throws(Failure) {
    dropsTensors = true
    func changed(_ state: PickleNode) -> PickleNode {
      guard let old = state["_parameters"], let entries = old.dictionaryEntries else { return state }
      var new: [PickleNode.Entry] = []
      for entry in entries {
        if entry.key.string == name {
          new += parameters.map { (.string($0.name), $0.node) }
        } else {
          new.append(entry)
        }
      }
      return state.setting("_parameters", to: ModuleState.dictionary(new, like: old))
    }
    if path.isEmpty {
      edits[document.object.body.id, default: []].append { changed($0) }
    } else {
      let node = try node(at: path)
      guard document.tree.modules[path]?.className != "GraphModule" else {
        throw misfit("other parameters for a GraphModule within the model")
      }
      edits[node.id, default: []].append { module in module.state.map { module.settingState(changed($0)) } ?? module }
    }
  }

  private func node(at path: String) throws(Failure) -> PickleNode {
    guard let node = document.tree.nodes[path] else { throw misfit("a module '\(path)'") }
    return node
  }

  private func misfit(_ what: String) -> Failure {
    Failure(.certificateFailed, "the edits ask for \(what), which the model does not have")
  }
}

/// The attributes that every module has, as one of the file has them: other modules are made like it.
struct ModuleState {
  private let entries: [PickleNode.Entry]
  private let parameters: PickleNode

  /// Of torch.nn.Module's own, in whatever order and choice the file's PyTorch has them.
  private static let keys: Set<String> = [
    "training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_backward_pre_hooks", "_backward_hooks",
    "_is_full_backward_hook", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_modules",
  ]

  init(_ state: PickleNode) {
    entries = (state.dictionaryEntries ?? []).filter { $0.key.string.map(Self.keys.contains) ?? false }
    parameters = state["_parameters"] ?? PickleNode.dict([])
  }

  /// The state of another module.
  func state(
    parameters own: [(String, PickleNode)] = [], children: [(String, PickleNode)] = [],
    settings: [(String, PickleNode)] = []
  ) -> PickleNode {
    var state: [PickleNode.Entry] = []
    for (key, value) in entries {
      let new: PickleNode
      switch key.string {
      case "_parameters": new = Self.dictionary(own.map { (.string($0.0), $0.1) }, like: parameters)
      case "_modules": new = Self.dictionary(children.map { (.string($0.0), $0.1) }, like: value)
      case "training": new = .bool(value.bool ?? false)
      default: new = Self.empty(like: value)
      }
      state.append((.string(key.string ?? ""), new))
    }
    state += settings.map { (.string($0.0), $0.1) }
    return PickleNode(.dict(state))
  }

  /// A dictionary of the same kind.
  static func dictionary(_ entries: [PickleNode.Entry], like old: PickleNode) -> PickleNode {
    if case .dict = old.kind { return PickleNode(.dict(entries)) }
    return .reduce(.global("collections", "OrderedDict"), [], items: entries)
  }

  /// An empty collection of the same kind, or the same plain value: objects of their own, since modules write into
  /// them.
  private static func empty(like old: PickleNode) -> PickleNode {
    switch old.kind {
    case .list: return .list([])
    case .set: return PickleNode(.set([]))
    case .bool(let value): return .bool(value)
    case .call(let call) where old.dictionaryEntries == nil:
      // `set([])`, as protocol 2 has it.
      return .reduce(call.callee, [.list([])])
    default: return old.dictionaryEntries == nil ? .none : dictionary([], like: old)
    }
  }
}
