import JSON
import ModelGraph

/// The text of what takes a layer's place: a Sequential of the layer's own name, so that nothing else in the
/// configuration changes, whether the layer is called in a Functional or a Sequential, several times, or by a wrapper.
///
/// Without an input layer Keras builds the Sequential when it is called, in both generations. Only where Keras 3 calls
/// one with several shapes does it need an input layer, one that leaves open what differs.
struct KerasReplacements {
  /// By entry.
  private(set) var byEntry: [ObjectIdentifier: KerasReplacement] = [:]
  private let model: KerasModel
  private let isKeras3: Bool
  private let shapes: KerasShapes

  /// - Throws: `Failure` of kind layerUnavailable where Keras has no place for a Sequential.
  init(
    _ edits: [KerasEdit], _ model: KerasModel, isKeras3: Bool, shapes: KerasShapes
  ) throws(Failure) {
    (self.model, self.isKeras3, self.shapes) = (model, isKeras3, shapes)
    for case .replace(let replacement) in edits {
      guard let entry = model.entry(of: replacement.layer) else { continue }
      byEntry[entry.id] = replacement
    }
    guard !byEntry.isEmpty else { return }
    var places: [ObjectIdentifier: Int] = [:]
    for holder in model.entries + [model.root] {
      for inner in holder.network?.entries ?? [] { places[inner.id, default: 0] += 1 }
      for part in holder.parts where byEntry[part.entry.id] != nil {
        guard holder.className == "TimeDistributed" else {
          throw unavailable(part.entry, "it is part of the \(holder.className) '\(holder.path)'")
        }
      }
    }
    for entry in model.entries where byEntry[entry.id] != nil && places[entry.id, default: 0] > 1 {
      throw unavailable(entry, "several models share it")
    }
  }

  private func unavailable(_ entry: KerasEntry, _ reason: String) -> Failure {
    Failure(
      .layerUnavailable,
      "'\(entry.path)' cannot be replaced by a Sequential in Keras's file: \(reason); exclude it",
      details: ["layer": .string(entry.path)])
  }

  // MARK: Text

  func write(to changes: inout KerasTextChanges) throws(Failure) {
    for entry in model.entries {
      guard let replacement = byEntry[entry.id] else { continue }
      let description = entry.description
      if description["module"] != nil { changes.set("module", of: description, to: "\"keras\"") }
      if description["registered_name"] != nil { changes.set("registered_name", of: description, to: "null") }
      changes.set("class_name", of: description, to: "\"Sequential\"")
      changes.set("config", of: description, to: try settings(entry, replacement))
      for name in ["build_config", "compile_config", "shared_object_id"] { changes.remove(name, of: description) }
    }
  }

  /// Names of the layers within, which differ from one another.
  static func names(_ replacement: KerasReplacement) -> [String] {
    var names = UniqueNames(taken: [replacement.layer.name])
    return replacement.layers.map { names.make($0.name) }
  }

  private func settings(_ entry: KerasEntry, _ replacement: KerasReplacement) throws(Failure) -> String {
    var layers: [String] = []
    if let input = try inputLayer(entry) { layers.append(input) }
    for (index, (layer, name)) in zip(replacement.layers, Self.names(replacement)).enumerated() {
      layers.append(self.layer(layer, name: name, of: entry, isFirst: index == 0))
    }
    var members = ["\"name\": \(JSONEscapes.encoded(entry.name))"]
    if isKeras3 {
      members.append("\"trainable\": true")
      if let dtype = entry.settings["dtype"] { members.append("\"dtype\": \(dtype.source)") }
    }
    members.append("\"layers\": [\(layers.joined(separator: ", "))]")
    return "{\(members.joined(separator: ", "))}"
  }

  private func layer(
    _ layer: KerasReplacement.Layer, name: String, of entry: KerasEntry, isFirst: Bool
  ) -> String {
    var settings: [(name: String, json: String)] = [("name", JSONEscapes.encoded(name))]
    let isSameClass = layer.className == entry.className
    // What tells a tf.keras Sequential its input stays with the first layer.
    let inputs = ["batch_input_shape", "batch_shape", "input_shape"]
    for (key, value) in entry.settings.members {
      guard let key = key.string, key != "name" else { continue }
      if inputs.contains(key) {
        guard isFirst, isFirstOfSequential(entry) else { continue }
      } else if KerasInitializers.array(of: value) != nil || !isSameClass && key != "trainable" && key != "dtype" {
        continue
      }
      settings.append((key, value.source))
    }
    for (key, json) in layer.settings where key != "name" {
      if let index = settings.firstIndex(where: { $0.name == key }) {
        settings[index].json = json
      } else {
        settings.append((key, json))
      }
    }
    let config = settings.map { "\(JSONEscapes.encoded($0.name)): \($0.json)" }.joined(separator: ", ")
    return description(layer.className, config, of: entry)
  }

  private func description(_ className: String, _ config: String, of entry: KerasEntry) -> String {
    // Legacy files say modules only within the settings of wrappers.
    let isModern = entry.description["module"] != nil
    let name = "\"class_name\": \(JSONEscapes.encoded(className)), \"config\": {\(config)}"
    return isModern ? "{\"module\": \"keras.layers\", \(name), \"registered_name\": null}" : "{\(name)}"
  }

  private func isFirstOfSequential(_ entry: KerasEntry) -> Bool {
    ([model.root] + model.entries).contains { holder in
      guard let network = holder.network, network.isSequential else { return false }
      return network.entries.first === entry
    }
  }

  // MARK: Several shapes

  /// nil where the layer is called with one shape only, or the file does not say with which.
  private func inputLayer(_ entry: KerasEntry) throws(Failure) -> String? {
    guard isKeras3 else { return nil }
    var common: [Int?]?
    var differs = false
    for invocation in model.invocations where invocation.entry === entry {
      guard case .stated(let tensor, let place)? = invocation.arguments.first else { continue }
      let new = shapes.new(tensor)
      let shape = place.elements.enumerated().map { new[$0.offset] ?? $0.element.int }
      guard let known = common else {
        common = shape
        continue
      }
      guard known.count == shape.count else {
        throw unavailable(entry, "it is called with tensors of \(known.count) and of \(shape.count) axes")
      }
      if known != shape { differs = true }
      common = zip(known, shape).map { $0 == $1 ? $0 : nil }
    }
    guard differs, let common else { return nil }
    let lengths = common.map { $0.map(String.init) ?? "null" }.joined(separator: ", ")
    let name = JSONEscapes.encoded(entry.name + "_input_layer")
    let dtype = JSONEscapes.encoded("float32")
    return description(
      "InputLayer", "\"batch_shape\": [\(lengths)], \"dtype\": \(dtype), \"sparse\": false, \"name\": \(name)",
      of: entry)
  }
}
