import ModelGraph

extension TorchProgram {
  /// How many calls read a stored tensor: as an argument, or by a module that has it.
  /// - Parameter exceptions: modules, by path, whose reading does not count.
  func readers(of storage: TorchParameter.StorageView, except exceptions: Set<String> = []) -> Int {
    let names = Set(parameters.filter { $0.value.storage == storage }.keys)
    var seen = exceptions
    var readers = output.reads(names) ? 1 : 0
    for call in calls {
      for argument in call.arguments where argument.reads(names) { readers += 1 }
      for keyword in call.keywords where keyword.value.reads(names) { readers += 1 }
      // A module that is called twice reads what it has as one.
      if case .module(let module) = call.target, !exceptions.contains(module.path), seen.insert(module.path).inserted,
        module.reads(names, except: exceptions)
      {
        readers += 1
      }
    }
    return readers
  }
}

extension TorchArgument {
  fileprivate func reads(_ names: Set<String>) -> Bool {
    switch self {
    case .parameter(let name): names.contains(name)
    case .list(let elements), .tuple(let elements): elements.contains { $0.reads(names) }
    case .dictionary(let entries): entries.contains { $0.value.reads(names) }
    case .slice(let start, let end, let step): [start, end, step].contains { $0.reads(names) }
    case .reference, .none, .bool, .int, .float, .string, .symbol, .ellipsis: false
    }
  }
}

extension TorchModule {
  fileprivate func reads(_ names: Set<String>, except exceptions: Set<String>) -> Bool {
    parameters.values.contains { $0.map(names.contains) ?? false }
      || children.contains { !exceptions.contains($0.path) && $0.reads(names, except: exceptions) }
  }

  /// The module whose own weight it is: this one, or a link of the chain that this one is.
  func owner(ofWeight storage: TorchParameter.StorageView, in tree: ModuleTree) -> TorchModule? {
    if case .some(.some(let name)) = parameters["weight"] {
      return tree.tensors[name]?.parameter.storage == storage ? self : nil
    }
    guard className == "Sequential" else { return nil }
    for child in children { if let owner = child.owner(ofWeight: storage, in: tree) { return owner } }
    return nil
  }
}
