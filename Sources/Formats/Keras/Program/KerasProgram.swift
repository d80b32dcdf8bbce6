import JSON
import ModelGraph

/// A network as Keras's files hold it: calls of layers in execution order, whichever file and dialect it came from.
///
/// Nested models are gone: a call of a model is the calls of its layers, once for every time the model is called. A
/// layer that is called several times is one object with several calls.
///
/// Invariant: a call refers to inputs and to calls before it; every variable a layer is to have by its settings is
/// there with its shape.
package struct KerasProgram: Sendable {
  package var inputs: [Input]
  package var calls: [KerasCall]
  /// What the model returns, with lists and dictionaries as they are nested.
  package var output: KerasArgument
  /// What Keras calls the tensors of `output`, in order: the outermost layers or models that return them. Empty where
  /// nobody says.
  package var outputNames: [String] = []
  /// The layers that are called, and those that models and wrappers are made of, each once, in the file's order.
  package var layers: [KerasLayer]
  /// The configuration, which places of settings lie in; it lives as long as the program.
  package var text: JSONText

  package struct Input: Sendable {
    /// That of the layer.
    package let name: String
    package let dtype: DType
    /// The first axis is the batch; lengths that are left open are `.unknown`, or `.symbol` under one name for the
    /// batch.
    package let shape: [Dimension]

    package init(name: String, dtype: DType, shape: [Dimension]) {
      (self.name, self.dtype, self.shape) = (name, dtype, shape)
    }
  }

  package init(
    inputs: [Input], calls: [KerasCall], output: KerasArgument, layers: [KerasLayer], text: JSONText
  ) {
    (self.inputs, self.calls, self.output) = (inputs, calls, output)
    (self.layers, self.text) = (layers, text)
  }
}

/// A layer or operation of Keras's: its settings and its variables.
package final class KerasLayer: Sendable {
  package enum Kind: Sendable {
    /// Of `keras.layers`.
    case layer
    /// Of `keras.ops`, which has a name and settings and no variables.
    case operation
    /// A Sequential or Functional.
    case model
    /// Code that is not Keras's own: `registered_name` outside Keras, Lambda.
    case foreign
  }

  package let kind: Kind
  /// "Conv2D", "Reshape", ...
  package let className: String
  /// Where the class is: "keras.layers", "keras.src.ops.numpy", ...; empty where the dialect does not say.
  package let module: String
  /// Its own name.
  package let name: String
  /// Its name behind those of the models and wrappers that it is part of, unique in the file: "encoder/conv1".
  package let path: String
  /// `config`.
  package let settings: JSONElement
  /// The object that describes the layer: `class_name`, `config`, `inbound_nodes`, ...
  package let description: JSONElement
  /// In the order in which Keras makes them, those of its parts included.
  package let variables: [KerasVariable]
  /// Layers that it is made of: "layer" of TimeDistributed, "forward_layer" of Bidirectional, the layers of a model.
  package let parts: [Part]

  package struct Part: Sendable {
    /// The attribute that holds it, or in models its own name.
    package let role: String
    package let layer: KerasLayer
    package init(role: String, layer: KerasLayer) { (self.role, self.layer) = (role, layer) }
  }

  package init(
    kind: Kind, className: String, module: String, name: String, path: String, settings: JSONElement,
    description: JSONElement, variables: [KerasVariable], parts: [Part]
  ) {
    (self.kind, self.className, self.module, self.name, self.path) = (kind, className, module, name, path)
    (self.settings, self.description, self.variables, self.parts) = (settings, description, variables, parts)
  }

  package func variable(_ role: String) -> KerasVariable? { variables.first { $0.role == role } }
  package func part(_ role: String) -> KerasLayer? { parts.first { $0.role == role }?.layer }
}

/// A variable of a layer, as it is stored.
package struct KerasVariable: Sendable {
  /// What it is to its layer: "kernel", "bias", "gamma", "moving_mean", "depthwise_kernel", "query/kernel",
  /// "cell/recurrent_kernel".
  package let role: String
  /// The path of the layer that owns it and what it is to that layer: "encoder/conv1/kernel". Unique in the file.
  package let name: String
  /// Where the weights are: the dataset's path in the HDF5 file. Unique in the file.
  package let path: String
  /// In Keras's order of axes: kernels have their outputs last.
  package let tensor: Tensor

  package init(role: String, name: String, path: String, tensor: Tensor) {
    (self.role, self.name, self.path, self.tensor) = (role, name, path, tensor)
  }
}

/// One call of a layer or operation.
package struct KerasCall: Sendable {
  package let layer: KerasLayer
  package let arguments: [KerasArgument]
  package let keywords: [Keyword]
  /// Unique in the program: the layer's path, with "#1" and so on for its further calls.
  package let name: String
  /// What a wrapper around a Functional applies.
  package let inner: Network?

  package struct Keyword: Sendable {
    package let name: String
    package let value: KerasArgument
    package init(name: String, value: KerasArgument) { (self.name, self.value) = (name, value) }
  }

  /// The calls of a model of one input and one output; `input(0)` and results are its own.
  package struct Network: Sendable {
    package let calls: [KerasCall]
    package let output: KerasArgument
  }

  package init(
    layer: KerasLayer, arguments: [KerasArgument], keywords: [Keyword], name: String, inner: Network? = nil
  ) {
    (self.layer, self.arguments, self.keywords, self.name) = (layer, arguments, keywords, name)
    self.inner = inner
  }
}

/// What a call is given.
package indirect enum KerasArgument: Sendable {
  /// An input of the model, by its position.
  case input(Int)
  /// A result of an earlier call: layers that return several number them.
  case result(call: Int, index: Int)
  case list([KerasArgument])
  case dictionary([KerasCall.Keyword])
  /// A literal as it is written: numbers, strings, nulls, slices.
  case literal(JSONElement)
  /// Tensors stand in the file with a shape that is theirs: the places where it repeats lengths.
  case stated(KerasArgument, shape: JSONElement)
}
