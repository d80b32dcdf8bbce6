import ModelGraph

/// Finds variables in a legacy file, which lists the weights of every layer of the outermost model in order: what
/// training changes first, the rest behind it, through all layers of a nested model
/// (keras/src/legacy/saving/legacy_h5_format.py).
///
/// Names of weights are free and tell little, so the order decides. Where Keras's versions order otherwise, the names
/// tell which it was.
struct LegacyWeights {
  static let folder = "model_weights"
  private static let ownFolder = "top_level_model_weights"

  private let weights: HDF5Group
  private let isKeras3: Bool
  private var binding: KerasBinding

  typealias Place = (entry: KerasEntry, slot: KerasSlot)

  static func bind(
    _ root: KerasEntry, _ file: HDF5Group, isKeras3: Bool
  ) throws(Failure) -> KerasBinding {
    guard let weights = file.group(folder), let names = weights.attributes.strings("layer_names") else {
      throw Failure(
        .modelMalformed, "the file has no weights: the group '\(folder)' or its list 'layer_names' is missing")
    }
    var reader = LegacyWeights(
      weights: weights, isKeras3: isKeras3, binding: KerasBinding(source: "the list of weights", isKeras3: isKeras3))
    let entries = root.network?.entries ?? []
    let known = Set(entries.map(\.name))
    for name in names where !known.contains(name) {
      guard try reader.weightNames(name).isEmpty else {
        throw Failure(
          .modelMalformed, "the file has weights of a layer '\(name.prefix(100))', which its configuration has not",
          details: ["layer": .string(name)])
      }
    }
    if weights.group(ownFolder) != nil {
      guard try reader.weightNames(ownFolder).isEmpty else {
        throw Failure(.modelMalformed, "the model has weights that belong to none of its layers")
      }
    }
    let listed = Set(names)
    for entry in entries { try reader.bind(entry, isListed: listed.contains(entry.name)) }
    return reader.binding
  }

  private func weightNames(_ layer: String) throws(Failure) -> [String] {
    guard let group = weights.group(layer) else {
      throw Failure(
        .modelMalformed, "the file lists a layer '\(layer.prefix(100))' and has no group of that name",
        details: ["layer": .string(layer)])
    }
    return group.attributes.strings("weight_names") ?? []
  }

  private mutating func bind(_ entry: KerasEntry, isListed: Bool) throws(Failure) {
    let names = isListed ? try weightNames(entry.name) : []
    let prefix = "\(Self.folder)/\(entry.name)/"
    var datasets: [HDF5Dataset] = []
    for name in names {
      guard let dataset = weights.dataset("\(entry.name)/\(name)") else {
        throw binding.malformed(entry, prefix + name, "a weight is listed and not there")
      }
      datasets.append(dataset)
    }
    guard entry.slots != nil else {
      for (name, dataset) in zip(names, datasets) {
        try binding.add(dataset.tensor, at: prefix + name, as: name, of: entry)
      }
      return
    }
    let orders = LegacyOrder.candidates(entry, isKeras3: isKeras3)
    guard let first = orders.first, first.count == names.count else {
      let expected = orders.first?.count ?? 0
      let foreign = entry.all.first { $0.slots == nil }
      throw binding.malformed(
        entry, prefix + (names.last ?? ""),
        "it has \(names.count) weights where \(expected) follow from its settings"
          + (foreign.map { "; '\($0.path.prefix(100))' may have some that are not known" } ?? ""))
    }
    let order = orders.first { Self.matches($0, names) } ?? first
    for (place, (name, dataset)) in zip(order, zip(names, datasets)) {
      try binding.add(dataset, at: prefix + name, as: place.slot, of: place.entry)
    }
    // Within a layer, variables are told in the order in which Keras makes them.
    binding.sort(by: order)
  }

  private static func matches(_ order: [Place], _ names: [String]) -> Bool {
    zip(order, names).allSatisfy { place, name in
      let last = name.split(separator: "/").last?.prefix { $0 != ":" } ?? ""
      return last == place.slot.lastName || place.slot.lastName == "depthwise_kernel" && last == "kernel"
    }
  }
}

/// The order in which a legacy file has the weights of a layer and all it is made of.
enum LegacyOrder {
  typealias Place = LegacyWeights.Place

  /// The version's own order first.
  static func candidates(_ entry: KerasEntry, isKeras3: Bool) -> [[Place]] {
    var visited: Set<ObjectIdentifier> = []
    let all = everything(entry, &visited)
    visited = []
    let split = split(entry, &visited)
    // Keras 3 walks once and then divides; whether a layer that is not trained says so of its variables depends on when
    // that was set.
    let divided = all.filter(isTrained) + all.filter { !isTrained($0) }
    let plain = all.filter(\.slot.isTrained) + all.filter { !$0.slot.isTrained }
    let own = entry.isTrainable ? divided : all
    let nested = split.trained + split.rest
    return isKeras3 ? [own, plain, nested, all] : [nested, own, plain, all]
  }

  private static func isTrained(_ place: Place) -> Bool { place.slot.isTrained && place.entry.isTrainable }

  private static func everything(_ entry: KerasEntry, _ visited: inout Set<ObjectIdentifier>) -> [Place] {
    guard visited.insert(entry.id).inserted else { return [] }
    var places: [Place] = own(entry)
    for inner in entry.inner { places += everything(inner, &visited) }
    return places
  }

  private static func own(_ entry: KerasEntry) -> [Place] {
    let slots = (entry.slots ?? []).filter { !$0.isCopy }
    return (slots.filter(\.isTrained) + slots.filter { !$0.isTrained }).map { (entry, $0) }
  }

  /// tf.keras asks every layer for both lists; a layer that is not trained has all in the second.
  private static func split(
    _ entry: KerasEntry, _ visited: inout Set<ObjectIdentifier>
  ) -> (trained: [Place], rest: [Place]) {
    guard visited.insert(entry.id).inserted else { return ([], []) }
    let own = own(entry)
    var trained = own.filter(\.slot.isTrained)
    var rest = own.filter { !$0.slot.isTrained }
    for inner in entry.inner {
      let both = split(inner, &visited)
      trained += both.trained
      rest += both.rest
    }
    return entry.isTrainable ? (trained, rest) : ([], trained + rest)
  }
}
