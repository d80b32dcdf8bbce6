import ModelGraph

// Operators that run along an axis: reductions drop it, softmax and its kin mix it.

let reductionRules: [String: Rule] = {
  var rules: [String: Rule] = [:]
  for op in ["ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"] { rules[op] = sum }
  for op in ["ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"] { rules[op] = extremum }
  for op in ["Softmax", "LogSoftmax", "Hardmax"] { rules[op] = softmax }
  for op in ["ArgMax", "ArgMin"] { rules[op] = argument }
  return rules
}()

/// The axes a reduction runs over: attribute or input, all if none are given (unless `noop_with_empty_axes`).
private func reducedAxes(_ call: RuleCall, rank: Int) -> [Int]? {
  let axes: [Int]
  switch call.settings.setting(attribute: "axes", input: 1) {
  case .known(let stated): axes = stated
  case .absent: axes = []
  case .unknown: return nil
  }
  guard !axes.isEmpty else {
    return call.node.int("noop_with_empty_axes", default: 0) != 0 ? [] : Array(0..<rank)
  }
  let normalized = axes.compactMap { call.normalized($0, rank: rank) }
  return normalized.count == axes.count ? normalized : nil
}

/// Drops the axes altogether unless `keepdims`.
private func dropped(_ value: LabelledValue, _ axes: [Int], _ call: RuleCall) -> LabelledValue {
  guard call.node.int("keepdims", default: 1) == 0 else { return value }
  var copy = value
  copy.axes = value.axes.indices.filter { !axes.contains($0) }.map { value.axes[$0] }
  return copy
}

/// What a sum loses it would have summed to nothing, but for a mean's divisor and for what others do with the result:
/// where only a part of its operands goes, the result is another.
@Sendable private func sum(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let axes = reducedAxes(call, rank: x.axes.count) else { return nil }
  let factors = axes.flatMap { x.axes[$0] }
  let reason = call.facts.reason(.reduced, call.id)
  for set in x.sets { call.facts.approximate(set, over: factors, reason) }
  let letters = Array(x.axes.indices)
  let kept = letters.filter { !axes.contains($0) }
  guard var y = call.facts.contract([Operand(value: x, letters: letters)], output: kept, at: call.id) else {
    return nil
  }
  var result: [[Factor]] = []
  for axis in letters {
    if axes.contains(axis) {
      result.append([])
    } else {
      result.append(y.axes.removeFirst())
    }
  }
  y.axes = result
  return [dropped(y, axes, call)]
}

/// A maximum over joined labels is exact: all or none of its operands go. Where nothing but the reduced axes carries
/// the label, the removal changes the result.
@Sendable private func extremum(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let axes = reducedAxes(call, rank: x.axes.count) else { return nil }
  let factors = axes.flatMap { x.axes[$0] }
  let reason = call.facts.reason(.reduced, call.id)
  var y = x
  y.sets = []
  for set in x.sets {
    if set.factors.allSatisfy(factors.contains) {
      call.facts.approximate(set, over: factors, reason)
    } else {
      let single = LabelledValue(axes: x.axes, sets: [set])
      y.sets += call.facts.mix(single, factors, reason: reason).sets
    }
  }
  for axis in axes { y.dropFactors(ofAxis: axis) }
  return [dropped(y, axes, call)]
}

/// Before opset 13 softmax runs over all axes from `axis` on, read as one.
@Sendable private func softmax(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0) else { return nil }
  let rank = x.axes.count
  let old = call.node.opset < 13
  guard let axis = call.normalized(call.node.int("axis", default: old ? 1 : -1), rank: rank) else { return nil }
  let factors = old ? x.axes[axis...].flatMap { $0 } : x.axes[axis]
  return [call.facts.mix(x, factors, reason: call.facts.reason(.mixed, call.id))]
}

/// The index found is data: the axis keeps its order and its length.
@Sendable private func argument(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0),
    let axis = call.normalized(call.node.int("axis", default: 0), rank: x.axes.count)
  else { return nil }
  var y = call.facts.mix(x, x.axes[axis], reason: call.facts.reason(.mixed, call.id))
  y.dropFactors(ofAxis: axis)
  return [dropped(y, [axis], call)]
}
