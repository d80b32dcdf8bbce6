import Compression
import Formats
import ModelGraph

/// A model that was read, with everything that requests derive from it. Immutable, so that any number of them may use
/// it at once; freed when the cache and the last of them let go.
final class CachedModel: Sendable {
  /// What makes two requests' models the same one: the file, and everything that alters the graph made of it.
  struct Key: Hashable, Sendable {
    let path: String
    let format: String?
    let inputShapes: [InputShape]
  }

  let key: Key
  let document: any ModelDocument
  let compressible: CompressibleModel

  /// Reads the model.
  /// - Throws: `Failure(.modelChanged)` if its file changes meanwhile.
  init(_ key: Key, _ loader: ModelLoader, work: Work) throws(Failure) {
    self.key = key
    document = try loader.open(key.path, key.format, work.part(0...0.5))
    let shapes = try lengths(key.inputShapes, of: document.graph)
    compressible = try CompressibleModel(
      graph: document.graph, sizeBytes: document.description.sizeBytes, inputShapes: shapes, work: work.part(0.5...1))
    try document.verifyUnchanged()
  }

  /// Bytes held now. Grows as requests derive more.
  var bytes: Int { document.heldBytes + compressible.derivedBytes }
}

/// Input lengths by name. Those that came without a name belong to the input at their position.
private func lengths(_ inputs: [InputShape], of graph: Graph) throws(Failure) -> [String: [Int]] {
  let names = graph.inputs.map { graph[$0].name }
  var lengths: [String: [Int]] = [:]
  for (position, input) in inputs.enumerated() {
    guard let index = input.name.map({ names.firstIndex(of: $0) }) ?? (position < names.count ? position : nil) else {
      let inputs = names.joined(separator: ", ")
      throw Failure(
        .inputShapeMismatch,
        "input_shapes[\(position)] is for \(input.name.map { "'\($0)'" } ?? "input \(position)"), "
          + "but the model's inputs are: \(inputs)", details: ["inputs": .strings(names)])
    }
    let value = graph[graph.inputs[index]]
    if let wanted = input.dtype, let declared = value.dtype, wanted != declared {
      throw Failure(
        .inputShapeMismatch, "input '\(value.name)' is \(declared.wireName) in the file, not \(wanted.wireName)",
        details: ["input": .string(value.name)])
    }
    guard lengths.updateValue(input.shape, forKey: value.name) == nil else {
      throw Failure(
        .inputShapeMismatch, "input_shapes names '\(value.name)' twice", details: ["input": .string(value.name)])
    }
  }
  return lengths
}
