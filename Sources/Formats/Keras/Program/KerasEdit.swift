import JSON
import ModelGraph
import Numerics

/// One change to a model of Keras's, in its own terms. What a plan for the graph comes to; a document carries it out in
/// its configuration and its weights.
package enum KerasEdit: Sendable {
  /// The number at this place of the configuration becomes another.
  case setInteger(JSONElement, Int)
  case setIntegers(JSONElement, [Int])
  /// A setting of a layer ("filters", "units", "num_heads").
  case setSetting(KerasLayer, name: String, Int)
  /// A variable, by its path, keeps some of its indices. At most one per variable.
  case cut(variable: String, Gather)
  /// A variable gets other contents, in Keras's order of axes.
  case setVariable(String, Tensor)
  /// A Sequential of the same name takes the layer's place, at all its calls.
  case replace(KerasReplacement)
}

/// A layer whose place a Sequential takes.
package struct KerasReplacement: Sendable {
  package let layer: KerasLayer
  package let layers: [Layer]

  package init(layer: KerasLayer, layers: [Layer]) { (self.layer, self.layers) = (layer, layers) }

  package struct Layer: Sendable {
    /// The replaced layer's with what it is within the row: "conv1_input", "conv1_core", "conv1_out".
    package let name: String
    /// "Dense", "Conv2D", ...
    package let className: String
    /// What differs from the replaced layer's settings, as JSON by name; the rest is taken over where the class is the
    /// same, and is Keras's default where it is not.
    package let settings: [(name: String, json: String)]
    /// In the order in which Keras makes them, each with its role.
    package let variables: [(role: String, tensor: Tensor)]

    package init(
      name: String, className: String, settings: [(name: String, json: String)],
      variables: [(role: String, tensor: Tensor)]
    ) {
      (self.name, self.className, self.settings, self.variables) = (name, className, settings, variables)
    }
  }
}

extension KerasReplacement {
  /// A row of so many layers that takes as much room beside its tensors, which are empty here, as any that may take the
  /// layer's place.
  init(asLargeAs layer: KerasLayer, count: Int) {
    var variables: [(role: String, tensor: Tensor)] = []
    for role in ["kernel", "bias"] {
      guard let tensor = layer.variable(role)?.tensor else { continue }
      let none = Tensor(
        dtype: tensor.dtype, shape: tensor.shape.map { _ in 0 }, bytes: TensorBytes(copying: [UInt8]()))
      variables.append((role, none))
    }
    let layers = (0..<count).map { _ in
      Layer(
        name: "\(layer.name)_input", className: layer.className,
        settings: [("use_bias", "false"), ("activation", layer.settings["activation"]?.source ?? "\"linear\"")],
        variables: variables)
    }
    self.init(layer: layer, layers: layers)
  }
}
