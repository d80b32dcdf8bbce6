import Glibc
import ModelGraph

/// Files near Keras's models that are not taken, and the lines that make one that is.
package enum KerasRefusals {
  /// TensorFlow's SavedModel, zipped.
  static func savedModel(_ zip: ZipArchive) -> Failure? {
    zip.entries.contains { $0.fileName == "saved_model.pb" } ? savedModel : nil
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

  /// What Keras 3 writes into legacy files and does not read from them as it was.
  static func legacy(_ model: KerasEntry) -> Failure? {
    for entry in model.all where entry.kind == .layer || entry.kind == .foreign {
      guard let what = loss(in: entry) else { continue }
      return Failure(
        .modelUnsupportedFormat,
        "'\(entry.path.prefix(100))' (\(entry.className.prefix(100))) \(what); save the model as .keras",
        details: ["layer": .string(entry.path)])
    }
    return nil
  }

  private static func loss(in entry: KerasEntry) -> String? {
    let settings = entry.settings
    // Layers have a type; operations have none.
    if settings["dtype"] == nil, settings["trainable"] == nil {
      return "is an operation of keras.ops, which legacy .h5 files do not hold completely, so that Keras itself does "
        + "not load this file"
    }
    if let axis = settings["axis"], axis.kind == .array, Array(axis.elements).count != 1 {
      return "runs over several axes, which Keras does not take from legacy .h5 files: it would run over the last one"
    }
    if let rank = settings["lora_rank"], !rank.isNull {
      return "has weights of LoRA beside its own, which only .keras files hold as one"
    }
    return nil
  }
}
