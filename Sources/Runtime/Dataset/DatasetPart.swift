import ModelGraph

/// One file of a dataset: which of its arrays feeds which input. Opening it reads headers only.
struct DatasetPart: Sendable {
  struct Array: Sendable {
    /// nil for a .npy file, which is one array and nothing else.
    let entry: ZipDirectory.Entry?
    let header: NPYHeader
  }

  let path: String
  let stamp: DatasetFile.Stamp
  /// One per input of the model, in its order.
  let arrays: [Array]
  /// The length of the arrays' first axes.
  let samples: Int

  /// Per input the shape of a sample; of a scalar input, which has no samples, nothing.
  var sampleShapes: [ArraySlice<Int>] { arrays.map { $0.header.shape.dropFirst() } }

  /// - Throws: `Failure` of kind datasetNotFound, datasetUnreadable, datasetMalformed, datasetMismatch, datasetChanged
  ///   or cancelled.
  init(_ path: String, for inputs: [ModelValue], work: Work) throws(Failure) {
    let file = try DatasetFile(path)
    let start = try file.read(at: 0, count: min(file.size, 6), work: work)
    if start == [0x93] + Swift.Array("NUMPY".utf8) {
      arrays = [try Self.onlyArray(of: file, for: inputs, work: work)]
    } else if start.starts(with: "PK".utf8) {
      arrays = try Self.namedArrays(of: file, for: inputs, work: work)
    } else {
      throw .datasetMalformed(path, "it is neither a NumPy array (.npy) nor an archive of them (.npz)")
    }
    try file.verifyUnchanged()
    (self.path, stamp) = (path, file.stamp)
    samples = try sampleCount(of: Swift.Array(zip(inputs, arrays.map(\.header))), in: path)
  }

  private static func onlyArray(
    of file: DatasetFile, for inputs: [ModelValue], work: Work
  ) throws(Failure) -> Array {
    guard inputs.count == 1 else {
      throw .datasetMismatch(
        "the model takes \(inputs.count) inputs, \(names(inputs)), and \(file.path) holds one array without a name; "
          + "give a .npz file with an array for each (numpy.savez)", expected: names(inputs), found: "one array",
        file.path)
    }
    return Array(entry: nil, header: try ContentReader(file, nil).readHeader(work: work))
  }

  /// Arrays that no input has the name of, such as labels, are left alone.
  private static func namedArrays(
    of file: DatasetFile, for inputs: [ModelValue], work: Work
  ) throws(Failure) -> [Array] {
    let suffix = ".npy"
    var entries: [String: ZipDirectory.Entry] = [:]
    for entry in try ZipDirectory(file, work: work).entries where entry.name.hasSuffix(suffix) {
      let name = String(entry.name.dropLast(suffix.count))
      guard entries.updateValue(entry, forKey: name) == nil else {
        throw .datasetMalformed(file.path, "it holds '\(name)' twice")
      }
    }
    return try inputs.map { input throws(Failure) in
      guard let entry = entries[input.name] else {
        let found = entries.isEmpty ? "no array" : entries.keys.sorted().map { "'\($0)'" }.joined(separator: ", ")
        throw .datasetMismatch(
          "the model takes \(names(inputs)), and \(file.path) holds \(found); "
            + "an array for '\(input.name)' is missing", expected: names(inputs), found: found, file.path)
      }
      return Array(entry: entry, header: try ContentReader(file, entry).readHeader(work: work))
    }
  }

  private static func names(_ inputs: [ModelValue]) -> String {
    inputs.map { "'\($0.name)' (\($0.typeText))" }.joined(separator: ", ")
  }
}

/// Holds arrays to what the model takes, type and shape.
/// - Returns: the number of samples: the arrays' common first length.
/// - Throws: `Failure(.datasetMismatch)` that shows both sides.
private func sampleCount(
  of pairs: [(input: ModelValue, header: NPYHeader)], in path: String
) throws(Failure) -> Int {
  var samples: (count: Int, input: String)?
  var symbols: [String: Int] = [:]
  for (input, header) in pairs {
    func mismatch(_ why: String) -> Failure {
      let found = "\(header.dtype) \(shapeText(header.shape))"
      return .datasetMismatch(
        "input '\(input.name)' takes \(input.typeText), and \(path) holds \(found): \(why)",
        expected: input.typeText, found: found, path)
    }
    guard input.dtype == header.dtype else {
      let wanted = input.dtype.map(String.init(describing:)) ?? "what is no tensor"
      throw mismatch("the elements must be \(wanted); numbers are not converted silently (numpy.astype does it)")
    }
    if input.shape == [] {
      guard header.shape.isEmpty else { throw mismatch("it is one number for all samples") }
      continue
    }
    guard let count = header.shape.first else { throw mismatch("an axis for the samples is missing") }
    if let shape = input.shape {
      guard header.shape.count == shape.count else {
        let isSample = header.shape.count == shape.count - 1
        throw mismatch(
          isSample ? "the first axis must be the samples (array[numpy.newaxis] adds one)" : "the ranks differ")
      }
      for (axis, dimension) in shape.enumerated().dropFirst() {
        let length = header.shape[axis]
        switch dimension {
        case .fixed(let expected) where expected != length:
          throw mismatch("axis \(axis) has length \(length) where the model has \(expected)")
        case .symbol(let name):
          let expected = symbols[name, default: length]
          guard expected == length else {
            throw mismatch("axis \(axis), '\(name)', has length \(length), and \(expected) elsewhere in the file")
          }
          symbols[name] = length
        case .fixed, .unknown: break
        }
      }
    }
    if let samples, samples.count != count {
      throw mismatch("it has \(count) samples, and '\(samples.input)' has \(samples.count)")
    }
    samples = (count, input.name)
  }
  guard let samples, samples.count > 0 else {
    throw .datasetMismatch("\(path) holds no samples", expected: "at least one sample", found: "none", path)
  }
  return samples.count
}

extension Failure {
  static func datasetMismatch(_ message: String, expected: String, found: String, _ path: String) -> Failure {
    Failure(
      .datasetMismatch, message,
      details: ["expected": .string(expected), "found": .string(found), "path": .string(path)])
  }
}
