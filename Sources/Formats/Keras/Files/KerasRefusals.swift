import Glibc
import ModelGraph

/// Files near Keras's models that are not taken, and the lines that make one that is.
package enum KerasRefusals {
  /// TensorFlow's SavedModel, zipped.
  static func savedModel(_ zip: ZipArchive) -> Failure? {
    zip.entries.contains { $0.name.split(separator: "/").last == "saved_model.pb" } ? savedModel : nil
  }

  /// TensorFlow's SavedModel, which is a folder; nil if `path` is none.
  package static func refusal(ofDirectory path: String) -> Failure? {
    var info = stat()
    guard stat(path + "/saved_model.pb", &info) == 0 else { return nil }
    return savedModel
  }

  private static var savedModel: Failure {
    Failure(
      .modelUnsupportedFormat,
      "this is a TensorFlow SavedModel, whose graphs cannot be compressed; write the model by "
        + "tf.keras.models.load_model(folder).save(\"model.keras\") with TensorFlow 2.15 or before, or give the .h5 or "
        + ".keras file that it was made from", details: ["found": .string("SavedModel")])
  }

  /// What an HDF5 file without a configuration is; nil if nothing that Keras writes.
  static func withoutConfiguration(_ root: HDF5Group) -> Failure? {
    let isWeights =
      root.attributes.strings("layer_names") != nil || root.group("layers") != nil
      || root.group("_layer_checkpoint_dependencies") != nil
    guard isWeights else { return nil }
    return Failure(
      .modelUnsupportedFormat,
      "this file holds the weights of a model and not the model; where the model is built, run "
        + "model.load_weights(\"this file\") and then model.save(\"model.keras\")",
      details: ["found": .string("weights")])
  }

  static func missing(_ name: String) -> Failure {
    Failure(
      .modelMalformed,
      "the file has no '\(name)', so it is no whole model of Keras's; write it by "
        + "model.save(\"model.keras\")", details: ["entry": .string(name)])
  }

  static var weightsWithoutHDF5: Failure {
    Failure(
      .modelUnsupportedFormat,
      "the weights are in model.weights.npz, which Keras writes where h5py is missing; install h5py, and load the model "
        + "and save it again")
  }

  /// An operation of `keras.ops` in a legacy file of Keras 3, which Keras writes and cannot read.
  static func operation(in entry: KerasEntry) -> Failure? {
    for inner in entry.all {
      // Layers have a type; operations have none.
      guard inner.kind == .layer || inner.kind == .foreign, inner.settings["dtype"] == nil,
        inner.settings["trainable"] == nil
      else { continue }
      return Failure(
        .modelUnsupportedFormat,
        "'\(inner.path.prefix(100))' (\(inner.className.prefix(100))) is an operation of keras.ops, which legacy .h5 "
          + "files do not hold completely, so that Keras itself does not load this file; save the model as .keras",
        details: ["layer": .string(inner.path)])
    }
    return nil
  }
}
