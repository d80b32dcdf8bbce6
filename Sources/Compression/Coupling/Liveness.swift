import ModelGraph

extension Graph {
  /// Per value, whether some model output depends on it. What none depends on (running statistics that a training-mode
  /// normalization hands on, branches cut off) is no channel of anything: removing it would save a few bytes and
  /// nothing else.
  var reachingOutputs: [Bool] {
    var reaches = [Bool](repeating: false, count: values.count)
    for output in outputs { reaches[output.index] = true }
    for id in nodeIDs.reversed() {
      let node = self[id]
      let live = node.outputs.indices.filter { k in node.outputs[k].map { reaches[$0.index] } ?? false }
      guard !live.isEmpty else { continue }
      // The result of a normalization in training mode is made with the batch's own statistics.
      let isTraining = node.op == "BatchNormalization" && node.int("training_mode", default: 0) != 0
      let read = isTraining && live == [0] ? Array(node.inputs.prefix(3)) : node.inputs
      for input in read + node.captures { if let input { reaches[input.index] = true } }
    }
    return reaches
  }
}
