import ModelGraph

extension TorchLowering {
  /// Remembers of every weight whether what applies it is a layer whose place a row of layers of PyTorch's could take.
  /// Modules have their weights to themselves; it is calls of functions that can come by them in other ways.
  /// - Parameter graph: what was lowered.
  mutating func noteLayers(of graph: Graph) {
    var routes: WeightRoutes?
    for id in graph.nodeIDs where calls[id.index] < program.calls.count {
      let (node, call) = (graph[id], program.calls[calls[id.index]])
      let isProduct = node.op == "Gemm" || node.op == "MatMul"
      guard isProduct || node.op == "Conv" || node.op == "ConvTranspose", case .function = call.target else { continue }
      if isProduct, let first = node.input(0), let (source, _) = stored(behind: first, in: graph) {
        note(source, "its weight is the first factor of a product")
      }
      guard let weight = node.input(1), let (source, isReshaped) = stored(behind: weight, in: graph) else { continue }
      if isReshaped {
        note(source, "its weight is stored in another shape than it is applied in")
      } else if let bias = node.input(2), !isParameter(bias) || assembler.shape(bias)?.count != 1 {
        note(source, "its bias is computed")
      } else {
        if case .parameter? = AppliedOperands(call)?.weight.value(in: call) { continue }
        let known = routes ?? WeightRoutes(program)
        routes = known
        if known.route(of: calls[id.index]) == nil { note(source, "what brings its weight to it is read elsewhere") }
      }
    }
  }

  private mutating func note(_ weight: ValueID, _ why: String) {
    // Stacks of matrices are no weights of layers anyway.
    guard assembler.shape(weight)?.count ?? 0 > 1, indivisible[weight] == nil else { return }
    indivisible[weight] = why
  }

  /// The parameter that is applied, seen through what moves no number; and whether it is seen in another shape or type,
  /// beyond the order of its axes.
  private func stored(behind value: ValueID, in graph: Graph) -> (source: ValueID, isReshaped: Bool)? {
    var (source, isReshaped) = (value, false)
    while let producer = graph[source].producer, let input = graph[producer].input(0) {
      switch graph[producer].op {
      case "Transpose", "Identity": break
      case "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast": isReshaped = true
      default: return nil
      }
      source = input
    }
    return isParameter(source) ? (source, isReshaped) : nil
  }
}
