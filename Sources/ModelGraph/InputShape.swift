/// The lengths of one graph input, as a caller gives them; without a name, of the input at the same position.
package struct InputShape: Sendable, Hashable {
  package let name: String?
  package let shape: [Int]
  package let dtype: DType?

  package init(name: String? = nil, shape: [Int], dtype: DType? = nil) {
    (self.name, self.shape, self.dtype) = (name, shape, dtype)
  }
}

extension [InputShape] {
  /// Lengths by input name.
  /// - Parameter inputs: the model's, in order, with the element types that its file declares.
  /// - Throws: `inputShapeMismatch` for what is no input, comes twice, or has another element type.
  package func lengths(of inputs: [(name: String, dtype: DType?)]) throws(Failure) -> [String: [Int]] {
    var lengths: [String: [Int]] = [:]
    for (position, given) in enumerated() {
      let index =
        if let name = given.name { inputs.firstIndex { $0.name == name } } else {
          position < inputs.count ? position : nil
        }
      guard let index else {
        throw Failure(
          .inputShapeMismatch,
          "input_shapes[\(position)] is for \(given.name.map { "'\($0)'" } ?? "input \(position)"), "
            + "but the model's inputs are: \(inputs.map(\.name).joined(separator: ", "))",
          details: ["inputs": .strings(inputs.map(\.name))])
      }
      let (name, declared) = inputs[index]
      if let wanted = given.dtype, let declared, wanted != declared {
        throw Failure(
          .inputShapeMismatch, "input '\(name)' is \(declared.wireName) in the file, not \(wanted.wireName)",
          details: ["input": .string(name)])
      }
      guard lengths.updateValue(given.shape, forKey: name) == nil else {
        throw Failure(
          .inputShapeMismatch, "input_shapes names '\(name)' twice", details: ["input": .string(name)])
      }
    }
    return lengths
  }
}

extension DType {
  /// "float32", "int64", ...
  package var wireName: String { String(describing: self) }
}
