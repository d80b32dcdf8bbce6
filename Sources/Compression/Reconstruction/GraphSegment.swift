import ModelGraph

/// The part of a graph that leads from some of its values to others.
struct GraphSegment {
  /// With the ids of the whole graph's values; its inputs are what has to be fed.
  let graph: Graph

  /// - Parameters:
  ///   - outputs: computed by nodes, none of them among `given`.
  ///   - given: values that are known, with their element types; inputs of the graph need not be among them.
  init(_ whole: Graph, computing outputs: [ValueID], given: [ValueID: DType]) {
    var isWanted = [Bool](repeating: false, count: whole.values.count)
    var isKept = [Bool](repeating: false, count: whole.nodes.count)
    for output in outputs { isWanted[output.index] = true }
    for index in whole.nodes.indices.reversed() {
      let node = whole.nodes[index]
      guard node.outputs.contains(where: { $0.map { isWanted[$0.index] && given[$0] == nil } ?? false }) else {
        continue
      }
      isKept[index] = true
      for case let input? in node.inputs { isWanted[input.index] = true }
      for captured in node.captures { isWanted[captured.index] = true }
    }
    let nodes = whole.nodes.indices.filter { isKept[$0] }.map { whole.nodes[$0] }
    let fed = (given.keys.sorted() + whole.inputs.filter { given[$0] == nil }).filter { isWanted[$0.index] }
    let values = whole.valueIDs.map { id -> Value in
      let value = whole[id]
      if let dtype = given[id] { return Value(name: value.name, dtype: dtype) }
      // What nothing here reads would only take memory.
      return Value(
        name: value.name, dtype: value.dtype, declaredShape: value.declaredShape,
        tensor: isWanted[id.index] ? value.tensor : nil)
    }
    graph = Graph(
      values: values, nodes: nodes.map { $0.computing { given[$0] == nil } }, inputs: fed, outputs: outputs,
      definitions: whole.definitions)
  }
}

extension Node {
  /// The node without the outputs that somebody else gives.
  fileprivate func computing(_ isComputed: (ValueID) -> Bool) -> Node {
    outputs.allSatisfy { $0.map(isComputed) ?? true }
      ? self : with(outputs: outputs.map { output in output.flatMap { isComputed($0) ? $0 : nil } })
  }
}

extension Graph {
  /// The graph with other tensors in the place of stored ones.
  func storing(_ tensors: [ValueID: Tensor]) -> Graph {
    guard !tensors.isEmpty else { return self }
    let values = values.enumerated().map { index, value in
      guard let tensor = tensors[ValueID(index)] else { return value }
      return Value(
        name: value.name, dtype: value.dtype, declaredShape: value.declaredShape, tensor: tensor)
    }
    return Graph(
      values: values, nodes: nodes, inputs: inputs, outputs: outputs, definitions: definitions,
      constraints: constraints)
  }
}
