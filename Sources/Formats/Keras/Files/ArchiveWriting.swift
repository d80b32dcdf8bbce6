import ModelGraph

extension KerasArchive {
  package func contents(_ config: KerasConfigWriter, work: Work) throws(Failure) -> KerasContents {
    var tree = try config.edited(weights.root)
    if !config.replacements.byEntry.isEmpty {
      tree = try ArchiveGroups(replacements: config.replacements.byEntry).arranged(model.root, tree)
    }
    if config.dropsTraining { tree.setMember("optimizer", nil) }
    let encoded = try HDF5Writer(tree).encoded(work: work)
    var writer = ZipWriter(alignment: 1)
    for entry in zip.entries {
      switch entry.name {
      case Self.configName: writer.add(entry.name, config.text)
      case Self.weightsName: writer.add(entry.name, encoded)
      default: try writer.copy(entry, of: zip, limit: Self.packedLimit, work: work)
      }
    }
    return KerasContents(form: .archive(writer))
  }
}

/// The groups of an archive's weights as they have to be with layers replaced: groups are numbered by class, so that
/// those of all later layers of the classes concerned get other names.
struct ArchiveGroups {
  let replacements: [ObjectIdentifier: KerasReplacement]

  /// - Parameter group: of `entry`, a model, as it was.
  func arranged(_ entry: KerasEntry, _ group: HDF5Group) throws(Failure) -> HDF5Group {
    guard let network = entry.network, case .group(let old)? = group.member("layers") else { return group }
    let folder = entry.storage.isEmpty ? "layers/" : entry.storage + "/layers/"
    var names = GroupNames()
    var members: [(name: String, node: HDF5Node)] = []
    var moved: Set<String> = []
    for inner in network.entries where !inner.storage.isEmpty {
      let name = String(inner.storage.split(separator: "/").last ?? "")
      let replacement = replacements[inner.id]
      let newName = names.next(replacement == nil ? inner.className : "Sequential")
      // What several models hold has its group where the first one is.
      guard inner.storage == folder + name else { continue }
      moved.insert(name)
      guard let node = old.member(name) else { continue }
      switch (replacement, node) {
      case (let replacement?, .group(let group)):
        members.append((newName, .group(try sequential(replacement, like: group))))
      case (nil, .group(let group)): members.append((newName, .group(try part(inner, group))))
      case (_, .dataset): members.append((newName, node))
      }
    }
    var layers = HDF5Group(attributes: old.attributes, keepsOrder: old.keepsOrder)
    for (name, node) in members { layers.setMember(name, node) }
    for member in old.members where !moved.contains(member.name) && layers.member(member.name) == nil {
      layers.setMember(member.name, member.node)
    }
    var result = group
    result.setMember("layers", .group(layers))
    return result
  }

  private func part(_ entry: KerasEntry, _ group: HDF5Group) throws(Failure) -> HDF5Group {
    if entry.network != nil { return try arranged(entry, group) }
    var result = group
    for part in entry.parts {
      let name = String(part.entry.storage.dropFirst(entry.storage.utf8.count + 1))
      guard let old = group.group(name) else { continue }
      if let replacement = replacements[part.entry.id] {
        result[name] = .group(try sequential(replacement, like: old))
      } else {
        result[name] = .group(try self.part(part.entry, old))
      }
    }
    return result
  }

  /// - Parameter old: of the layer that is replaced.
  private func sequential(_ replacement: KerasReplacement, like old: HDF5Group) throws(Failure) -> HDF5Group {
    var result = HDF5Group(attributes: old.attributes, keepsOrder: old.keepsOrder)
    // Keras looks for this group in every layer, and Keras 3 names the layer in it.
    let isNamed = old.group("vars")?.attributes["name"] != nil
    func variables(_ name: String) -> HDF5Group {
      var group = HDF5Group(keepsOrder: old.keepsOrder)
      if isNamed { group.attributes.set(HDF5Attribute("name", string: name)) }
      return group
    }
    result["vars"] = .group(variables(replacement.layer.name))
    var names = GroupNames()
    for (layer, name) in zip(replacement.layers, KerasReplacements.names(replacement)) {
      let group = "layers/\(names.next(layer.className))"
      var own = variables(name)
      for (index, (_, tensor)) in layer.variables.enumerated() {
        own.setMember("\(index)", .dataset(try KerasConfigWriter.dataset(tensor, "\(group)/vars/\(index)")))
      }
      result["\(group)/vars"] = .group(own)
    }
    return result
  }
}
