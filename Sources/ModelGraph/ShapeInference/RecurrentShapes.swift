/// Shapes of RNN, GRU and LSTM: X (T, B, I), W (D, gates * H, I), R (D, gates * H, H); with `layout` 1 the batch
/// comes first everywhere. D is 2 for bidirectional networks.
enum RecurrentShapes {
  static let rules: [String: ShapeRule] = ["RNN": recurrent, "GRU": recurrent, "LSTM": recurrent]

  /// All steps, last hidden state, last cell state (LSTM).
  @Sendable private static func recurrent(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let recurrence = call.shape(2) else { return [nil] }
    guard x.count == 3, recurrence.count == 3 else {
      throw call.malformed("needs an input and a recurrence weight of 3 axes, found \(x) and \(recurrence)")
    }
    if let w = call.shape(1), w.count != 3 || w[2] != x[2] || w[0] != recurrence[0] || w[1] != recurrence[1] {
      throw call.malformed("the weights \(w) and \(recurrence) do not fit the input \(x)")
    }
    let (directions, hidden) = (recurrence[0], recurrence[2])
    let batchFirst = call.node.int("layout", default: 0) != 0
    let state = batchFirst ? [x[0], directions, hidden] : [directions, x[1], hidden]
    // Initial hidden state, and an LSTM's cell state.
    for position in [5, 6] {
      if let initial = call.shape(position), initial != state {
        throw call.malformed("the initial state is \(initial) but the input \(x) needs \(state)")
      }
    }
    let steps = batchFirst ? [x[0], x[1], directions, hidden] : [x[0], directions, x[1], hidden]
    return [steps, state, state]
  }
}
