import ModelGraph

/// Finds variables in the weights of a v3 archive, where groups are named after classes and places
/// (keras/src/saving/saving_lib.py, `_save_state`): `layers/conv2d_1/vars/0`.
struct ArchiveWeights {
  private let weights: HDF5Group
  private var binding: KerasBinding
  private var visited: Set<ObjectIdentifier> = []

  static func bind(_ root: KerasEntry, _ weights: HDF5Group, isKeras3: Bool) throws(Failure) -> KerasBinding {
    var reader = ArchiveWeights(weights, isKeras3: isKeras3)
    try reader.bind(root)
    return reader.binding
  }

  private init(_ weights: HDF5Group, isKeras3: Bool) {
    self.weights = weights
    binding = KerasBinding(source: "model.weights.h5", isKeras3: isKeras3)
  }

  private mutating func bind(_ entry: KerasEntry) throws(Failure) {
    guard visited.insert(entry.id).inserted else { return }
    if let slots = entry.slots { try bind(entry, slots) } else { try bindWhateverIsThere(entry) }
    for part in entry.parts { try bind(part.entry) }
    for inner in entry.network?.entries ?? [] { try bind(inner) }
  }

  private mutating func bind(_ entry: KerasEntry, _ slots: [KerasSlot]) throws(Failure) {
    // Keras's operations and the input layers of Sequentials have no group.
    guard !entry.storage.isEmpty || entry.path.isEmpty else { return }
    var expected: [String: Int] = [Self.folder(entry.storage, ""): 0]
    for slot in slots {
      let folders = slot.groups.map { Self.folder(entry.storage, $0) }
      let folder = folders.first { weights.group($0) != nil } ?? folders[0]
      let path = "\(folder)/\(slot.index)"
      guard let dataset = weights.dataset(path) else {
        throw binding.malformed(entry, path, "its '\(slot.role)' is missing")
      }
      try binding.add(dataset, at: path, as: slot, of: entry)
      expected[folder, default: 0] += 1
    }
    for (folder, count) in expected.sorted(by: { $0.key < $1.key }) {
      let found = weights.group(folder)?.members ?? []
      guard found.count > count else { continue }
      let surplus = found.first { member in !(0..<count).contains { String($0) == member.name } }
      throw binding.malformed(
        entry, "\(folder)/\(surplus?.name ?? "")",
        "it has \(found.count) variables there where \(count) follow from its settings")
    }
  }

  private mutating func bindWhateverIsThere(_ entry: KerasEntry) throws(Failure) {
    guard !entry.storage.isEmpty, let group = weights.group(entry.storage) else { return }
    var found: [(path: String, HDF5Dataset)] = []
    group.forEachDataset { path, dataset in
      // The state of random numbers is no weight: Dropout has no variables.
      if !path.split(separator: "/").contains(where: {
        $0.hasSuffix("seed_generator") || $0.hasSuffix("random_generator")
      }) {
        found.append((path, dataset))
      }
    }
    for (path, dataset) in found {
      try binding.add(dataset.tensor, at: "\(entry.storage)/\(path)", as: path, of: entry)
    }
  }

  static func folder(_ storage: String, _ group: String) -> String {
    [storage, group, "vars"].filter { !$0.isEmpty }.joined(separator: "/")
  }
}
