import ModelGraph

/// What a file of Keras's can do: say its program, and be written anew with edits made.
protocol KerasFile: Sendable {
  /// "keras" (the v3 archive) or "keras.h5" (the legacy whole-model file).
  var format: String { get }
  /// "keras 3.15.1", where the file says so.
  var framework: String? { get }
  var program: KerasProgram { get }
  var file: MappedFile { get }
  /// Private memory held, in bytes.
  var heldBytes: Int { get }

  /// The same kind of file with `edits` made, complete in `output`, which nobody has given its name yet.
  /// - Parameter lengths: new lengths by axis (Keras's order), of what calls return, for whatever the file declares of it.
  /// - Returns: what to tell of the file, one sentence each: that the state of training is not in it.
  /// - Throws: `Failure` of kind layerUnavailable where Keras has no place for what replaces a layer, resourceLimit,
  ///   outputUnwritable, modelChanged or cancelled.
  func write(
    making edits: [KerasEdit], lengths: [KerasResult: [Int: Int]], to output: OutputFile, work: Work
  ) throws(Failure) -> [String]
  /// The same kind of file at `path`.
  func reopened(_ path: String, work: Work) throws(Failure) -> any KerasFile
}

/// One of the tensors that a call returns.
package struct KerasResult: Hashable, Sendable {
  package let call: Int
  package let index: Int

  package init(call: Int, index: Int) { (self.call, self.index) = (call, index) }
}
