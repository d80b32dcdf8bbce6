import ModelGraph

extension KerasH5 {
  package func contents(_ config: KerasConfigWriter, work: Work) throws(Failure) -> KerasContents {
    var tree = try config.edited(self.tree.root)
    for entry in model.root.network?.entries ?? [] {
      try LegacyLists(replacements: config.replacements.byEntry).replace(in: entry, &tree, model)
    }
    if let attribute = tree.attributes[Self.configName] {
      tree.attributes.set(attribute.replacing(string: String(decoding: config.text, as: UTF8.self)))
    }
    if config.dropsTraining {
      tree.attributes.remove(Self.trainingName)
      tree.setMember(Self.optimizerName, nil)
    }
    return KerasContents(form: .pieces(try HDF5Writer(tree).encoded(work: work)))
  }
}

/// The lists of a legacy file's weights with layers replaced: the new weights stand where the old ones stood, which is
/// where Keras counts them, for both are trained or neither is.
struct LegacyLists {
  let replacements: [ObjectIdentifier: KerasReplacement]

  /// - Parameter entry: a layer of the outermost model.
  func replace(in entry: KerasEntry, _ root: inout HDF5Group, _ model: KerasModel) throws(Failure) {
    let replaced = entry.all.filter { replacements[$0.id] != nil }
    guard !replaced.isEmpty else { return }
    let folder = "\(LegacyWeights.folder)/\(entry.name)"
    guard var group = root.group(folder), var names = group.attributes.strings("weight_names") else { return }
    for inner in replaced {
      guard let replacement = replacements[inner.id] else { continue }
      let old = replacement.layer.variables.map { String($0.path.dropFirst(folder.utf8.count + 1)) }
      guard let first = names.firstIndex(where: old.contains) else { continue }
      let added = try add(replacement, like: names[first], to: &group, without: old)
      names.removeAll(where: old.contains)
      names.insert(contentsOf: added, at: first)
    }
    group.attributes.setStrings("weight_names", names)
    root[folder] = .group(group)
  }

  /// - Parameter name: of one of the weights that go: "c1/kernel:0".
  /// - Returns: the names of the new weights, in Keras's order.
  private func add(
    _ replacement: KerasReplacement, like name: String, to group: inout HDF5Group, without old: [String]
  ) throws(Failure) -> [String] {
    for name in old { group[name] = nil }
    let folder = name.split(separator: "/").dropLast().joined(separator: "/")
    let suffix = name.hasSuffix(":0") ? ":0" : ""
    var added: [String] = []
    for (layer, layerName) in zip(replacement.layers, KerasReplacements.names(replacement)) {
      for (role, tensor) in layer.variables {
        var path = [folder, layerName, role + suffix].filter { !$0.isEmpty }.joined(separator: "/")
        while group[path] != nil { path = "_" + path }
        group[path] = .dataset(try KerasConfigWriter.dataset(tensor, path))
        added.append(path)
      }
    }
    return added
  }
}
