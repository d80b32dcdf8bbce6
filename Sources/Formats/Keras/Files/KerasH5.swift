import JSON
import ModelGraph

/// A whole model in one HDF5 file, as Keras before version 3 and its `.h5` option since write it: the configuration is
/// an attribute, the weights are listed by layer.
package struct KerasH5: KerasFile {
  package let file: MappedFile
  let tree: HDF5File
  package let model: KerasModel
  package let version: String?
  package let isKeras3: Bool
  private let textBytes: Int

  static let configName = "model_config"
  static let trainingName = "training_config"
  static let optimizerName = "optimizer_weights"

  /// - Throws: `Failure` of kind modelUnsupportedFormat, modelUnsupportedOperator, modelUnsafe, modelMalformed,
  ///   modelChanged, resourceLimit or cancelled.
  package init(file: MappedFile, work: Work) throws(Failure) {
    self.file = file
    tree = try HDF5File(file, work: work)
    let root = tree.root
    guard let config = root.attributes[Self.configName] else {
      throw KerasRefusals.withoutConfiguration(root) ?? KerasRefusals.missing(Self.configName)
    }
    guard let string = config.string else {
      throw Failure(.modelMalformed, "the attribute '\(Self.configName)' is no text")
    }
    let bytes = TensorBytes(copying: Array(string.utf8))
    textBytes = bytes.count
    let text = try KerasText(bytes, name: Self.configName)
    version =
      root.attributes["keras_version"]?.string ?? root.group(LegacyWeights.folder)?.attributes["keras_version"]?.string
    isKeras3 = KerasVersion.isKeras3(version ?? "2")
    var reader = KerasConfigReader(text, isKeras3: isKeras3, work: work)
    let entry = try reader.model()
    try KerasForeignCode.check(entry, text)
    if isKeras3, let loss = KerasRefusals.legacy(entry) { throw loss }
    model = try KerasModel(entry, text, try LegacyWeights.bind(entry, root, isKeras3: isKeras3), work: work)
  }

  package var format: String { "keras.h5" }
  package var heldBytes: Int { model.heldBytes + tree.heldBytes + textBytes }
  package var wasCompiled: Bool {
    tree.root.attributes[Self.trainingName] != nil || tree.root.group(Self.optimizerName) != nil
  }

  package func reopened(_ path: String, work: Work) throws(Failure) -> any KerasFile {
    try KerasH5(file: try MappedFile(path: path, isOurs: true, work: work), work: work)
  }
}
