import JSON
import ModelGraph

/// What variables are found for entries, and whether they are what the settings say.
struct KerasBinding {
  /// By entry: its own variables, in the order in which Keras makes them.
  private(set) var variables: [ObjectIdentifier: [KerasVariable]] = [:]
  private var paths: Set<String> = []
  /// "model.weights.h5" or the file's name, for messages.
  let source: String

  /// Keras 3 calls the kernel of a depthwise convolution by another name than tf.keras.
  private let isKeras3: Bool

  init(source: String, isKeras3: Bool) { (self.source, self.isKeras3) = (source, isKeras3) }

  mutating func add(
    _ tensor: Tensor, at path: String, as role: String, of entry: KerasEntry
  ) throws(Failure) {
    guard paths.insert(path).inserted else { throw malformed(entry, path, "its '\(role)' is another variable too") }
    let isDepthwise = isKeras3 && role == "depthwise_kernel" && entry.className.hasPrefix("Depthwise")
    variables[entry.id, default: []].append(
      KerasVariable(
        role: role, name: "\(entry.path)/\(isDepthwise ? "kernel" : role)", path: path, tensor: tensor))
  }

  /// Adds a dataset as the variable that `slot` says, if its shape can be that variable's.
  mutating func add(
    _ dataset: HDF5Dataset, at path: String, as slot: KerasSlot, of entry: KerasEntry
  ) throws(Failure) {
    guard Self.fits(dataset.shape, slot) else {
      throw malformed(
        entry, path,
        "its '\(slot.role)' has the shape \(dataset.shape) where \(Self.expected(slot)) follows from its settings")
    }
    try add(dataset.tensor, at: path, as: slot.role, of: entry)
  }

  static func fits(_ shape: [Int], _ slot: KerasSlot) -> Bool {
    guard let lengths = slot.lengths else { return true }
    return shape.count == lengths.count && zip(shape, lengths).allSatisfy { $1 == nil || $0 == $1 }
  }

  private static func expected(_ slot: KerasSlot) -> String {
    let lengths = slot.lengths ?? []
    return "[" + lengths.map { $0.map(String.init) ?? "any" }.joined(separator: ", ") + "]"
  }

  /// Puts the variables of the layers in `places` into the order of their slots.
  mutating func sort(by places: [LegacyWeights.Place]) {
    for (entry, _) in places {
      let roles = (entry.slots ?? []).map(\.role)
      variables[entry.id]?.sort { (roles.firstIndex(of: $0.role) ?? 0) < (roles.firstIndex(of: $1.role) ?? 0) }
    }
  }

  func malformed(_ entry: KerasEntry, _ dataset: String, _ reason: String) -> Failure {
    Failure(
      .modelMalformed,
      "\(source) does not fit the configuration: layer '\(entry.path.prefix(200))' (\(entry.className.prefix(100))): "
        + "\(reason) (dataset '\(dataset.prefix(400))')",
      details: ["layer": .string(entry.path), "dataset": .string(dataset)])
  }
}

/// A model of Keras's as it was read: its description, and the program made of it.
package struct KerasModel: Sendable {
  let root: KerasEntry
  let program: KerasProgram
  let text: KerasText
  /// All entries but the outermost model, each once, in the file's order.
  let entries: [KerasEntry]
  let shapes: [KerasWiring.StatedShape]
  let invocations: [KerasWiring.Invocation]
  private let entriesByLayer: [ObjectIdentifier: KerasEntry]
  private let layers: [ObjectIdentifier: KerasLayer]

  /// - Parameter binding: the variables of `root`.
  init(_ root: KerasEntry, _ text: KerasText, _ binding: KerasBinding, work: Work) throws(Failure) {
    (self.root, self.text) = (root, text)
    var maker = LayerMaker(binding: binding)
    _ = try maker.layer(root)
    (layers, entries) = (maker.layers, Array(root.all.dropFirst()))
    var wiring = KerasWiring(text, layers: layers, work: work)
    let output = try wiring.wire(root)
    let layersInOrder = entries.compactMap { maker.layers[$0.id] }
    var program = KerasProgram(
      inputs: wiring.inputs, calls: wiring.calls, output: output, layers: layersInOrder, text: text.text)
    if let network = root.network {
      let last = network.entries.last { !$0.isInput }
      program.outputNames =
        network.isSequential
        ? last.map { [$0.name] } ?? [] : network.outputs.references.map { network.entries[$0.entry].name }
    }
    self.program = program
    (shapes, invocations) = (wiring.shapes, wiring.invocations)
    var entriesByLayer: [ObjectIdentifier: KerasEntry] = [:]
    for entry in root.all { if let layer = layers[entry.id] { entriesByLayer[ObjectIdentifier(layer)] = entry } }
    self.entriesByLayer = entriesByLayer
  }

  func entry(of layer: KerasLayer) -> KerasEntry? { entriesByLayer[ObjectIdentifier(layer)] }
  func layer(of entry: KerasEntry) -> KerasLayer? { layers[entry.id] }

  /// Private memory, in bytes: the index of the text, and layers, calls and variables at typical lengths.
  var heldBytes: Int {
    text.text.heldBytes + entries.count * 1024 + program.calls.count * 512 + shapes.count * 64
  }

  /// Makes layers of entries, those that others are made of first, each once.
  private struct LayerMaker {
    let binding: KerasBinding
    private(set) var layers: [ObjectIdentifier: KerasLayer] = [:]
    private var count = 0
    /// Variables are told by all that hold them. Models that hold one another can make that any number.
    private static let limit = 1 << 20

    init(binding: KerasBinding) { self.binding = binding }

    mutating func layer(_ entry: KerasEntry) throws(Failure) -> KerasLayer {
      if let known = layers[entry.id] { return known }
      var parts: [KerasLayer.Part] = []
      for part in entry.parts { parts.append(.init(role: part.role, layer: try layer(part.entry))) }
      for inner in entry.network?.entries ?? [] { parts.append(.init(role: inner.name, layer: try layer(inner))) }
      var variables = binding.variables[entry.id] ?? []
      for part in parts {
        count += part.layer.variables.count
        guard count <= Self.limit else {
          throw Failure(.resourceLimit, "the model's layers hold one another's variables too often")
        }
        let prefix = part.role.hasSuffix("ward_layer") ? String(part.role.dropLast("_layer".count)) : part.role
        variables += part.layer.variables.map {
          KerasVariable(role: "\(prefix)/\($0.role)", name: $0.name, path: $0.path, tensor: $0.tensor)
        }
      }
      let layer = KerasLayer(
        kind: entry.kind, className: entry.className, module: entry.module, name: entry.name, path: entry.path,
        settings: entry.settings, description: entry.description, variables: variables, parts: parts)
      layers[entry.id] = layer
      return layer
    }
  }
}
