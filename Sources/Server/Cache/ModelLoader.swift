import Formats
import ModelGraph

/// How model files become documents. The daemon reads real formats; tests put models of their own here, and hold a
/// load still to see what happens meanwhile.
package struct ModelLoader: Sendable {
  /// Names of the formats that `open` reads.
  package let formats: [String]
  /// - Parameters: a canonical path, and the format if the client named one.
  package let open: @Sendable (_ path: String, _ format: String?, _ work: Work) throws(Failure) -> any ModelDocument

  package init(
    formats: [String],
    open: @escaping @Sendable (_ path: String, _ format: String?, _ work: Work) throws(Failure) -> any ModelDocument
  ) {
    (self.formats, self.open) = (formats, open)
  }
}

extension ModelLoader {
  /// Files of all formats there are.
  package static let files = ModelLoader(formats: ModelFormats.names) { (path, format, work) throws(Failure) in
    try ModelFormats.open(path: path, format: format, work: work)
  }
}
