import ModelGraph

// Quantization: numbers change their form, channels do not. Scales and zero points that run along an axis go with it.
// (Quantized convolutions and matrix products stand with the real ones.)

let quantizationRules: [String: Rule] = {
  var rules: [String: Rule] = [:]
  for domain in ["", "com.microsoft."] {
    for op in ["QuantizeLinear", "DequantizeLinear"] { rules[domain + op] = rescaled }
  }
  rules["DynamicQuantizeLinear"] = dynamicallyQuantized
  for op in ["QLinearSigmoid", "QLinearLeakyRelu"] {
    rules["com.microsoft.\(op)"] = { call in call.input(0).map { [$0] } }
  }
  for op in ["QLinearAdd", "QLinearMul"] { rules["com.microsoft.\(op)"] = quantizedPair }
  rules["com.microsoft.QLinearWhere"] = { call in joined(&call, [0, 1, 4]) }
  rules["com.microsoft.QLinearConcat"] = quantizedConcat
  rules["com.microsoft.QLinearSoftmax"] = { call in
    guard let x = call.input(0), let axis = call.normalized(call.node.int("axis", default: -1), rank: x.axes.count)
    else { return nil }
    let old = call.node.int("opset", default: 13) < 13
    let factors = old ? x.axes[axis...].flatMap { $0 } : x.axes[axis]
    return [call.facts.mix(x, factors, reason: call.facts.reason(.mixed, call.id))]
  }
  return rules
}()

/// Scale and zero point are one number, or one per index of `axis`. The blocked form has others in between.
@Sendable private func rescaled(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), call.node.int("block_size", default: 0) == 0 else { return nil }
  let axis = call.normalized(call.node.int("axis", default: 1), rank: x.axes.count) ?? x.axes.count
  return call.scaled(x, by: [1, 2], axis: axis).map { [$0] }
}

/// One scale for all, from the range that the data turns out to have.
@Sendable private func dynamicallyQuantized(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0) else { return nil }
  call.approximate(x, axes: x.axes.indices)
  let scalar = LabelledValue(axes: [], sets: [])
  return [x, scalar, scalar]
}

/// (A, scale, zero point, B, scale, zero point, scale, zero point of the result), one number each.
@Sendable private func quantizedPair(_ call: inout RuleCall) -> [LabelledValue]? { joined(&call, [0, 3]) }

private func joined(_ call: inout RuleCall, _ positions: [Int]) -> [LabelledValue]? {
  let operands = positions.compactMap { call.input($0) }
  guard operands.count == positions.count, let rank = operands.map(\.axes.count).max(), var result = operands.first
  else { return nil }
  for operand in operands.dropFirst() {
    guard let met = call.facts.elementwise([result, operand], rank: rank, at: call.id) else { return nil }
    result = met
  }
  return [result]
}

/// Scale and zero point of the result, then each part with its own.
@Sendable private func quantizedConcat(_ call: inout RuleCall) -> [LabelledValue]? {
  let parts = stride(from: 2, to: call.inputs.count, by: 3).compactMap { call.input($0) }
  guard let rank = parts.first?.axes.count, parts.allSatisfy({ $0.axes.count == rank }),
    let axis = call.node.int("axis").flatMap({ call.normalized($0, rank: rank) })
  else { return nil }
  return call.facts.concatenate(parts, axis: axis, at: call.id).map { [$0] }
}
