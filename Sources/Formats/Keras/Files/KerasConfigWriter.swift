import JSON
import ModelGraph
import Numerics

/// Edits of a model of Keras's, sorted by what they concern, and the configuration that comes of them. What no edit
/// concerns keeps its bytes.
package struct KerasConfigWriter {
  /// The new configuration.
  let text: [UInt8]
  let replacements: KerasReplacements
  /// By path: what stays of a variable.
  let cuts: [String: Gather]
  let contents: [String: Tensor]
  /// Whether the optimizer's state and all else that belongs to training goes, which no change of shapes leaves as it
  /// was.
  let dropsTraining: Bool
  /// Layers whose shapes their arrays of starting values fit no more.
  private let restarted: [String]

  /// - Parameter dropsTraining: whether it goes even if no shape changes.
  init(
    _ model: KerasModel, making edits: [KerasEdit], lengths: [KerasResult: [Int: Int]], isKeras3: Bool,
    dropsTraining: Bool = false
  ) throws(Failure) {
    var (cuts, contents): ([String: Gather], [String: Tensor]) = ([:], [:])
    var changes = KerasTextChanges()
    var edited: Set<String> = []
    var dropsTraining = dropsTraining
    var sizes: [String: [Int]] = [:]
    var reshaped: Set<String> = []
    var units: [ObjectIdentifier: Int] = [:]
    for layer in model.program.layers {
      for variable in layer.variables { sizes[variable.path] = variable.tensor.shape }
    }
    for edit in edits {
      switch edit {
      case .setInteger(let element, let integer): changes.replace(element, with: integer)
      case .setIntegers(let element, let integers):
        changes.replace(element, with: "[\(integers.map(String.init).joined(separator: ", "))]")
      case .setSetting(let layer, let name, let integer):
        Self.set(name, of: layer.settings, to: integer, &changes)
        if name == "units" { units[ObjectIdentifier(layer)] = integer }
      case .cut(let path, let gather):
        precondition(cuts[path] == nil, "a variable is cut once")
        cuts[path] = gather
        edited.insert(path)
        reshaped.insert(path)
      case .setVariable(let path, let tensor):
        contents[path] = tensor
        edited.insert(path)
        guard sizes[path] != tensor.shape else { continue }
        reshaped.insert(path)
      case .replace(let replacement):
        let paths = replacement.layer.variables.map(\.path)
        edited.formUnion(paths)
        reshaped.formUnion(paths)
      }
      dropsTraining = true
    }
    try Self.requireEqualDirections(model, units)
    var restarted: [String] = []
    for layer in model.program.layers where layer.variables.contains(where: { reshaped.contains($0.path) }) {
      let arrays = KerasInitializers.arrays(in: layer.settings)
      for array in arrays { changes.replace(array, with: "0.0") }
      if !arrays.isEmpty { restarted.append(layer.path) }
    }
    let shapes = KerasShapes(model, lengths, edited: edited)
    shapes.write(to: &changes)
    replacements = try KerasReplacements(edits, model, isKeras3: isKeras3, shapes: shapes)
    try replacements.write(to: &changes)
    if dropsTraining, model.root.description["compile_config"] != nil {
      changes.set("compile_config", of: model.root.description, to: "{}")
    }
    text = changes.isEmpty ? Array(model.text.bytes.buffer) : changes.applied(to: model.text.bytes.buffer)
    (self.cuts, self.contents, self.dropsTraining, self.restarted) = (cuts, contents, dropsTraining, restarted)
  }

  /// Keras takes what both directions of a Bidirectional return for twice what the first one returns.
  /// - Parameter units: new ones, by layer.
  private static func requireEqualDirections(
    _ model: KerasModel, _ units: [ObjectIdentifier: Int]
  ) throws(Failure) {
    guard !units.isEmpty else { return }
    for entry in model.entries where entry.className == "Bidirectional" && entry.kind == .layer {
      let layers = entry.parts.compactMap { model.layer(of: $0.entry) }
      let new = layers.compactMap { units[ObjectIdentifier($0)] ?? $0.settings["units"]?.int }
      guard layers.contains(where: { units[ObjectIdentifier($0)] != nil }), Set(new).count > 1 else { continue }
      throw Failure(
        .layerUnavailable,
        "the directions of '\(entry.path)' would have \(new.map(String.init).joined(separator: " and ")) units, and Keras "
          + "takes directions of one width only; exclude the layer", details: ["layer": .string(entry.path)])
    }
  }

  private static func set(
    _ name: String, of settings: JSONElement, to integer: Int, _ changes: inout KerasTextChanges
  ) {
    // `output_shape` of an attention may be an array of one.
    if let element = settings.member(name), element.kind == .array {
      changes.replace(element, with: "[\(integer)]")
    } else {
      changes.set(name, of: settings, to: "\(integer)")
    }
  }

  /// What to tell of the file that is written.
  /// - Parameter wasCompiled: whether the original holds anything of training.
  func notes(wasCompiled: Bool) -> [String] {
    var notes: [String] = []
    if dropsTraining, wasCompiled {
      notes.append(
        "the optimizer's state and the settings of compile() are not in the file: compile the model before training")
    }
    if !restarted.isEmpty {
      let names = restarted.map { "'\($0)'" }.joined(separator: ", ")
      notes.append(
        "arrays of starting values do not fit any more and are not in the file, only the weights that came of them: "
          + "\(names)")
    }
    return notes
  }

  /// The tree with the contents that variables get.
  func edited(_ root: HDF5Group) throws(Failure) -> HDF5Group {
    var root = root
    for (path, gather) in cuts.sorted(by: { $0.key < $1.key }) where contents[path] == nil {
      guard let dataset = root.dataset(path) else { continue }
      root[path] = .dataset(dataset.gathering(gather))
    }
    for (path, tensor) in contents.sorted(by: { $0.key < $1.key }) {
      root[path] = .dataset(try Self.dataset(tensor, path, like: root.dataset(path)))
    }
    return root
  }

  static func dataset(_ tensor: Tensor, _ path: String, like old: HDF5Dataset? = nil) throws(Failure) -> HDF5Dataset {
    guard let dataset = old?.replacing(tensor) ?? HDF5Dataset(tensor) else {
      throw Failure(
        .modelUnsupportedFormat, "HDF5 files of Keras's hold no tensors of \(tensor.dtype) ('\(path)')",
        details: ["dataset": .string(path)])
    }
    return dataset
  }
}
