import ModelGraph

// Operators that ONNX Runtime's optimizer makes of several: they do what their parts do. (Fused convolutions and matrix
// products stand with the plain ones.)

let fusedRules: [String: Rule] = [
  "com.microsoft.Gelu": { call in call.input(0).map { [$0] } },
  "com.microsoft.QuickGelu": { call in call.input(0).map { [$0] } },
  "com.microsoft.FastGelu": sum, "com.microsoft.BiasGelu": sum, "com.microsoft.BiasAdd": sum,
  "com.microsoft.BiasSplitGelu": gatedSum,
]

/// The operands added, and a function of each element.
@Sendable private func sum(_ call: inout RuleCall) -> [LabelledValue]? {
  let operands = call.inputs.compactMap { $0 }
  guard let rank = operands.map(\.axes.count).max(), var result = operands.first else { return nil }
  for operand in operands.dropFirst() {
    guard let next = call.facts.elementwise([result, operand], rank: rank, at: call.id) else { return nil }
    result = next
  }
  return [result]
}

/// The first half of the biased last axis times a function of the second.
@Sendable private func gatedSum(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let added = sum(&call)?.first, let last = added.axes.indices.last, let half = call.outputShape()?.last,
    half > 0
  else { return nil }
  let keeps = call.wasLonger(last)
  var (value, gate) = (added, added)
  value.take(axis: last, .run(0..<half), keepsFactor: keeps, at: call.id, &call.facts)
  gate.take(axis: last, .run(half..<2 * half), keepsFactor: keeps, at: call.id, &call.facts)
  return call.facts.elementwise([value, gate], rank: added.axes.count, at: call.id).map { [$0] }
}
