import Formats
import ModelGraph

/// How model files become documents. The daemon reads real formats; tests put models of their own here, and hold a
/// load still to see what happens meanwhile.
package struct ModelLoader: Sendable {
  /// Names of the formats that `open` reads.
  package let formats: [String]
  package typealias Open =
    @Sendable (
      _ path: String, _ format: String?, _ inputShapes: [InputShape], _ work: Work
    ) throws(Failure) -> any ModelDocument
  /// - Parameters: a canonical path, the format if the client named one, and the lengths that it gave.
  package let open: Open

  package init(formats: [String], open: @escaping Open) {
    (self.formats, self.open) = (formats, open)
  }
}

extension ModelLoader {
  /// Files of all formats there are.
  package static let files = ModelLoader(formats: ModelFormats.names) { (path, format, shapes, work) throws(Failure) in
    try ModelFormats.open(path: path, format: format, inputShapes: shapes, work: work)
  }
}
