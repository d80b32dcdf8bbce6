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
    document = try loader.open(key.path, key.format, key.inputShapes, work.part(0...0.5))
    let (document, graph) = (document, document.graph)
    var shapes = try key.inputShapes.lengths(of: graph.inputs.map { (graph[$0].name, graph[$0].dtype) })
    shapes.merge(document.exampleShapes) { given, _ in given }
    compressible = try CompressibleModel(
      graph: document.graph, sizeBytes: document.description.sizeBytes, inputShapes: shapes, work: work.part(0.5...1),
      rewritingCost: { rows, work throws(Failure) in try document.rewritingCost(ofRows: rows, work: work) },
      writtenBytes: { plan, work throws(Failure) in try document.writtenBytes(applying: plan, work: work) })
    try document.verifyUnchanged()
  }

  /// Bytes held now. Grows as requests derive more.
  var bytes: Int { document.heldBytes + compressible.derivedBytes }
}
