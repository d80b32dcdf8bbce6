import Compression
import JSON
import ModelGraph

/// A file of Keras's that was read: the model in it, and how the same kind of file is put together anew.
///
/// Invariant: every tensor and every place in the text points into bytes that `file` keeps mapped or this holds.
package protocol KerasFile: Sendable {
  /// "keras" (the v3 archive) or "keras.h5" (the legacy whole-model file).
  var format: String { get }
  /// Of the Keras that wrote it ("3.15.1"), where it says so.
  var version: String? { get }
  /// Whether it is one of Keras 3's, which tf.keras 2 does not load.
  var isKeras3: Bool { get }
  var file: MappedFile { get }
  var model: KerasModel { get }
  /// Private memory held, in bytes.
  var heldBytes: Int { get }
  /// Whether anything of training is in it: settings of `compile`, the state of an optimizer.
  var wasCompiled: Bool { get }

  /// The same kind of file with a new configuration, and what it says of the weights.
  /// - Throws: `Failure` of kind resourceLimit, runtimeUnavailable, certificateFailed or cancelled.
  func contents(_ config: KerasConfigWriter, work: Work) throws(Failure) -> KerasContents
  /// The same kind of file at `path`.
  func reopened(_ path: String, work: Work) throws(Failure) -> any KerasFile
}

extension KerasFile {
  /// "keras 3.15.1", where the file says so.
  package var framework: String? { version.map { "keras \($0.prefix(40))" } }
  package var program: KerasProgram { model.program }

  /// The same kind of file with `edits` made, complete in `output`, which nobody has given its name yet.
  /// - Parameter lengths: new lengths by axis (Keras's order), of what calls return, for whatever the file declares of
  ///   it.
  /// - Returns: what to tell of the file, one sentence each: that the state of training is not in it.
  /// - Throws: `Failure` of kind layerUnavailable where Keras has no place for what replaces a layer, resourceLimit,
  ///   outputUnwritable, modelChanged or cancelled.
  package func write(
    making edits: [KerasEdit], lengths: [KerasResult: [Int: Int]], to output: OutputFile, work: Work
  ) throws(Failure) -> [String] {
    let config = try KerasConfigWriter(model, making: edits, lengths: lengths, isKeras3: isKeras3)
    try contents(config, work: work).write(to: output, work: work)
    return config.notes(wasCompiled: wasCompiled)
  }

  /// What a file of this one's structure takes beside its tensors: files of one structure differ by their tensors'
  /// bytes and by the digits of numbers.
  /// - Parameter layers: of which any may be replaced.
  func rewritingCost(replacing layers: [KerasLayer], work: Work) throws(Failure) -> RewritingCost {
    func count(_ edits: [KerasEdit]) throws(Failure) -> Int {
      let config = try KerasConfigWriter(model, making: edits, lengths: [:], isKeras3: isKeras3, dropsTraining: true)
      return try contents(config, work: work).count
    }
    let bare = try count([])
    // The longest settings stand for all: the rest of what a row takes is alike.
    var (perRow, perRowLayer) = (0, 0)
    for layer in layers.sorted(by: { $0.settings.range.count > $1.settings.range.count }) {
      let gone = layer.variables.reduce(0) { $0 + $1.tensor.bytes.count }
      do throws(Failure) {
        func row(_ length: Int) throws(Failure) -> Int {
          try count([.replace(KerasReplacement(asLargeAs: layer, count: length))]) - bare + gone
        }
        let pair = try row(2)
        perRowLayer = try row(3) - pair
        perRow = pair - 2 * perRowLayer
        break
      } catch {
        // Keras has no place for a row there.
        guard error.kind == .layerUnavailable else { throw error }
      }
    }
    return RewritingCost(
      rewriting: bare - file.span.count + Self.roomForDigits * program.calls.count, perRow: perRow,
      perRowLayer: perRowLayer)
  }

  /// By which a call's own numbers may grow: lists where there was a number, a width that was taken for granted.
  private static var roomForDigits: Int { 8 }
}

/// A file that is put together.
package struct KerasContents {
  enum Form {
    case archive(ZipWriter)
    case pieces(WireMessage)
  }

  let form: Form

  var count: Int {
    switch form {
    case .archive(let writer): writer.count
    case .pieces(let message): message.count
    }
  }

  func write(to output: OutputFile, work: Work) throws(Failure) {
    switch form {
    case .archive(let writer): try writer.write(to: output, work: work)
    case .pieces(let message):
      try output.reserve(message.count)
      try output.append(message, work: work) { _ in }
    }
  }
}

enum KerasVersion {
  static func isKeras3(_ version: String) -> Bool { (Int(version.prefix { $0.isNumber }) ?? 3) >= 3 }
}

/// One of the tensors that a call returns.
package struct KerasResult: Hashable, Sendable {
  package let call: Int
  package let index: Int

  package init(call: Int, index: Int) { (self.call, self.index) = (call, index) }
}
