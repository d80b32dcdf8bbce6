import JSON
import ModelGraph

/// A program of Keras's as the one graph, and where in the program every part of the graph comes from.
struct LoweredKeras: Sendable {
  let graph: Graph
  /// By node: index into the program's calls; their number for what is made of the model's output.
  let calls: [Int]
  /// Stored tensors that are variables. Every variable is at most one of them.
  let variables: [ValueID: VariableView]
  /// Stored integers that are literals of the configuration, by element; nil for an element that nobody wrote.
  let literals: [ValueID: [JSONElement?]]
  /// Attributes of nodes that are settings: `groups`, parts of a split, ...
  let settings: [NodeSetting: KerasSetting]
  /// What calls return, as the graph has it.
  let results: [KerasResult: ArrangedValue]

  /// Whether it is a number that Keras works out itself.
  func isDerived(_ value: ValueID) -> Bool { graph.constraints.derivedRoots[value] != nil }

  /// Memory of the variables whose order of axes the graph has otherwise, once they have been read: see
  /// `TensorBytes.preparedCount` for what there is of it at a moment.
  var preparableBytes: Int {
    variables.keys.reduce(0) { sum, id in
      guard let bytes = graph[id].tensor?.bytes, bytes.isPreparedOnDemand else { return sum }
      return sum + bytes.count
    }
  }
}

/// A variable as the graph has it: its axes in another order, several of them as one.
struct VariableView: Sendable, Equatable {
  /// Of the dataset.
  let path: String
  /// By axis of the graph's tensor: the axes of the variable that it runs over, the last one fastest; none for an axis
  /// of length 1 that the variable does not have. A Conv2D's kernel (h, w, in, out) is `[[3], [2], [0], [1]]`.
  let axes: [[Int]]
}

/// A value of the graph that holds a tensor of Keras's with its axes in another order.
struct ArrangedValue: Sendable {
  let value: ValueID
  /// By axis of the value: the axis of Keras's tensor. Channels that come last in Keras come second in the graph:
  /// `[0, 3, 1, 2]`.
  let axes: [Int]
}

enum KerasSetting: Sendable {
  /// The number at this place of the configuration.
  case literal(JSONElement)
  /// How many parts of one length there are, at this place; of parts of several lengths it has where all but the first
  /// begin, or how long they are.
  case parts(JSONElement, areSizes: Bool)
  /// It follows from the variables' shapes by itself.
  case follows
}
