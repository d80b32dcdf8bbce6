import JSON
import ModelGraph

/// A `.keras` archive: `metadata.json`, `config.json` and `model.weights.h5`, as Keras 3 and tf.keras 2.13 to 2.15
/// write it.
package struct KerasArchive: KerasFile {
  package let file: MappedFile
  let zip: ZipArchive
  package let model: KerasModel
  let weights: HDF5File
  package let version: String?
  package let isKeras3: Bool
  private let unpackedBytes: Int

  static let configName = "config.json"
  static let metadataName = "metadata.json"
  static let weightsName = "model.weights.h5"
  /// Of weights that are packed, which Keras does not write; they are unpacked into memory.
  static let packedLimit = 2 << 30

  /// Whether the archive claims to be a model of Keras's or TensorFlow's, taken or not.
  package static func recognizes(_ zip: ZipArchive) -> Bool {
    zip.entry(named: configName) != nil && zip.entry(named: metadataName) != nil
      || zip.entry(named: weightsName) != nil || KerasRefusals.savedModel(zip) != nil
  }

  /// - Parameter zip: the archive in `file`.
  /// - Throws: `Failure` of kind modelUnsupportedFormat, modelUnsupportedOperator, modelUnsafe, modelMalformed,
  ///   modelChanged, resourceLimit or cancelled.
  package init(file: MappedFile, zip: ZipArchive, work: Work) throws(Failure) {
    if let refusal = KerasRefusals.savedModel(zip) { throw refusal }
    (self.file, self.zip) = (file, zip)
    guard let config = zip.entry(named: Self.configName) else { throw KerasRefusals.missing(Self.configName) }
    let bytes = try zip.contents(of: config, limit: KerasText.byteLimit, work: work)
    let text = try KerasText(bytes, name: Self.configName)
    version = try Self.version(zip, work: work)
    isKeras3 = KerasVersion.isKeras3(version ?? "3")
    var reader = KerasConfigReader(text, isKeras3: isKeras3, work: work)
    let root = try reader.model()
    try KerasForeignCode.check(root, text)
    guard let entry = zip.entry(named: Self.weightsName) else {
      throw zip.entry(named: "model.weights.npz") == nil
        ? KerasRefusals.missing(Self.weightsName) : KerasRefusals.weightsWithoutHDF5
    }
    var unpacked = config.method == .stored ? 0 : bytes.count
    switch entry.method {
    case .stored: weights = try HDF5File(file, range: entry.range, work: work)
    case .deflated:
      weights = try HDF5File(try zip.contents(of: entry, limit: Self.packedLimit, work: work), work: work)
      unpacked += entry.count
    }
    unpackedBytes = unpacked
    model = try KerasModel(root, text, try ArchiveWeights.bind(root, weights.root, isKeras3: isKeras3), work: work)
  }

  private static func version(_ zip: ZipArchive, work: Work) throws(Failure) -> String? {
    guard let entry = zip.entry(named: metadataName) else { return nil }
    let text = try KerasText(try zip.contents(of: entry, limit: 1 << 16, work: work), name: metadataName)
    return text.root["keras_version"]?.string
  }

  package var format: String { "keras" }
  package var heldBytes: Int { model.heldBytes + weights.heldBytes + unpackedBytes }
  package var wasCompiled: Bool {
    weights.root.group("optimizer") != nil
      || model.root.description["compile_config"]?.members.contains { _ in true } ?? false
  }

  package func reopened(_ path: String, work: Work) throws(Failure) -> any KerasFile {
    let file = try MappedFile(path: path, isOurs: true, work: work)
    return try KerasArchive(file: file, zip: try ZipArchive(file.span, owner: file), work: work)
  }
}
