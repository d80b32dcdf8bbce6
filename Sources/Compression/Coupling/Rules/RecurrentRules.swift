import ModelGraph

// RNN, GRU and LSTM: every gate multiplies the input and the state; the state's width is what can be cut. A removed
// index takes its row in every gate, its column of the recurrence and its place in every state with it, in both
// directions.

let recurrentRules: [String: Rule] = [
  "RNN": { call in recurrence(&call, gates: 1) },
  "GRU": { call in recurrence(&call, gates: 3) },
  "LSTM": { call in recurrence(&call, gates: 4) },
]

/// Letters: time, batch, input, direction, gate, state, state of the step before, input or recurrence bias.
private enum L {
  static let (time, batch, input, direction, gate, state, before, side) = (0, 1, 2, 3, 4, 5, 6, 7)
}

/// X (T, B, I), W (D, gates * H, I), R (D, gates * H, H), bias (D, 2 * gates * H), lengths (B), initial states
/// (D, B, H), peepholes (D, 3 * H); with `layout` 1 the batch comes first.
private func recurrence(_ call: inout RuleCall, gates: Int) -> [LabelledValue]? {
  guard let shape = call.shape(2), let original = call.originalShape(2), shape.count == 3, original.count == 3,
    let x = call.input(0), x.axes.count == 3, let w = call.input(1), let r = call.input(2),
    shape[1] == gates * shape[2]
  else { return nil }
  call.freezeSettings([4])
  let batchFirst = call.node.int("layout", default: 0) != 0
  let width = Extent(shape[2], original: original[2])
  let gateExtent = Extent(gates, original: gates)
  let steps = batchFirst ? [L.batch, L.time] : [L.time, L.batch]
  let stateLetters = batchFirst ? [L.batch, L.direction, L.state] : [L.direction, L.batch, L.state]
  guard let wGates = call.whole(w, axis: 0)?.splitting(axis: 1, into: [gateExtent, width], at: call.id, &call.facts),
    let rGates = call.whole(r, axis: 0)?.splitting(axis: 1, into: [gateExtent, width], at: call.id, &call.facts),
    let input = call.whole(x, axis: batchFirst ? 1 : 0),
    let driven = call.facts.contract(
      [
        Operand(value: input, letters: steps + [L.input]),
        Operand(value: wGates, letters: [L.direction, L.gate, L.state, L.input]),
      ], output: [L.time, L.batch, L.direction, L.gate, L.state], at: call.id, roles: true)
  else { return nil }
  // All gates of an index go together.
  var state = call.facts.mix(driven, driven.axes[3], reason: call.facts.reason(.mixed, call.id))
  state.axes.remove(at: 3)
  let letters = [L.time, L.batch, L.direction, L.state]
  func meet(_ other: LabelledValue, _ otherLetters: [Letter]) -> Bool {
    guard
      let met = call.facts.contract(
        [Operand(value: state, letters: letters), Operand(value: other, letters: otherLetters)], output: letters,
        at: call.id, roles: true)
    else { return false }
    state = met
    return true
  }
  guard
    var next = call.facts.contract(
      [
        Operand(value: state, letters: [L.time, L.batch, L.direction, L.before]),
        Operand(value: rGates, letters: [L.direction, L.gate, L.state, L.before]),
      ], output: [L.time, L.batch, L.direction, L.gate, L.state], at: call.id, roles: true)
  else { return nil }
  next = call.facts.mix(next, next.axes[3], reason: call.facts.reason(.mixed, call.id))
  next.axes.remove(at: 3)
  guard meet(next, letters) else { return nil }
  if let bias = call.input(3) {
    guard
      let sides = call.whole(bias, axis: 0)?.splitting(
        axis: 1, into: [Extent(2, original: 2), gateExtent, width], at: call.id, &call.facts)
    else { return nil }
    var joined = call.facts.mix(
      sides, sides.axes[1] + sides.axes[2], reason: call.facts.reason(.mixed, call.id))
    joined.axes.removeSubrange(1...2)
    guard meet(joined, [L.direction, L.state]) else { return nil }
  }
  for k in [5, 6] {
    guard let initial = call.input(k) else { continue }
    guard let initial = call.whole(initial, axis: batchFirst ? 1 : 0), meet(initial, stateLetters) else { return nil }
  }
  if let peepholes = call.input(7) {
    guard
      let parts = call.whole(peepholes, axis: 0)?.splitting(
        axis: 1, into: [Extent(3, original: 3), width], at: call.id, &call.facts)
    else { return nil }
    var joined = call.facts.mix(parts, parts.axes[1], reason: call.facts.reason(.mixed, call.id))
    joined.axes.remove(at: 1)
    guard meet(joined, [L.direction, L.state]) else { return nil }
  }
  state.isStored = false
  var last = state
  last.axes = (batchFirst ? [1, 2, 3] : [2, 1, 3]).map { state.axes[$0] }
  return [state.permuted(batchFirst ? [1, 0, 2, 3] : [0, 2, 1, 3]), last, last]
}

extension RuleCall {
  /// `value` with an axis that stays whole: the operator runs along it, or counts its directions.
  fileprivate mutating func whole(_ value: LabelledValue, axis: Int) -> LabelledValue? {
    guard axis < value.axes.count else { return nil }
    return facts.mix(value, value.axes[axis], reason: facts.reason(.mixed, id))
  }
}
