import JSON
import ModelGraph

/// LSTM, GRU and plain recurrent layers, whose gates Keras and ONNX keep in different orders. The state's width can be cut:
/// the file has it in one setting and in the variables.
enum RecurrentLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [:]
    for (name, cell) in [
      "LSTM": Cell.lstm, "CuDNNLSTM": .lstm, "GRU": .gru, "SimpleRNN": .plain,
    ] where name != "CuDNNLSTM" {
      table[name] = KerasRule("sequences initial_state mask") { (l, a) throws(Failure) in
        try l.recurrentLayer(cell, a)
      }
    }
    return table
  }()

  enum Cell {
    case lstm, gru, plain
    var op: String {
      switch self {
      case .lstm: "LSTM"
      case .gru: "GRU"
      case .plain: "RNN"
      }
    }
    /// ONNX's gates, by their places in Keras's order.
    var gates: [Int] {
      switch self {
      case .lstm: [0, 3, 1, 2]
      case .gru: [0, 1, 2]
      case .plain: [0]
      }
    }
  }
}

/// What a recurrent layer has computed.
struct RecurrentResult {
  /// (steps, batch, width), in the order of time.
  let sequence: ValueID
  /// (batch, width) each: output, and the cell's where there is one.
  let states: [ValueID]
}

extension KerasLowering {
  fileprivate mutating func recurrentLayer(
    _ cell: RecurrentLayers.Cell, _ a: KerasArguments
  ) throws(Failure) -> LoweredOperand {
    let goesBackwards = try a.bool("go_backwards", false)
    let result = try recurrent(cell, a, isReverse: goesBackwards)
    var output: KerasTensor
    if try a.bool("return_sequences", false) {
      var sequence = result.sequence
      if goesBackwards {
        // As they were computed: the last step first.
        let bounds = (integers([-1], as: "start"), integers([Int.min], as: "end"))
        sequence = try node(
          "Slice", [sequence, bounds.0, bounds.1, integers([0], as: "axes"), integers([-1], as: "steps")], as: "turned")
      }
      output = tensor(sequence, [1, 0, 2])
    } else {
      output = tensor(result.states[0])
    }
    guard try a.bool("return_state", false) else { return .tensor(output) }
    return .list([.tensor(output)] + result.states.map { .tensor(tensor($0)) })
  }

  /// - Parameter isReverse: whether time is run through from its end.
  mutating func recurrent(
    _ cell: RecurrentLayers.Cell, _ a: KerasArguments, isReverse: Bool
  ) throws(Failure) -> RecurrentResult {
    guard let x = a["sequences"].tensors.first else { throw a.wrong("sequences", "a tensor") }
    guard rank(x) == 3 else { throw malformed("it runs over a tensor of \(rank(x)) axes") }
    for name: StaticString in ["stateful", "time_major"] {
      guard try !a.bool(name, false) else { throw unsupported("it is \(name.description)") }
    }
    let steps = try a.optionalTensor("mask") ?? masks[x]
    let givesZeros = try a.bool("zero_output_for_mask", false)
    if steps != nil, givesZeros, try !a.bool("return_sequences", false) {
      throw unsupported("it returns zeros where the last step does not count")
    }
    let prefix = a.layer.variable("kernel") == nil ? "cell/" : ""
    let (kernel, recurrence) = (
      try stored("\(prefix)kernel", a.layer), try stored("\(prefix)recurrent_kernel", a.layer)
    )
    // (in, gates * width) as (gates * width, in).
    let w = try stacked(cell, variable(kernel, [[1], [0]]), as: "W")
    let r = try stacked(cell, variable(recurrence, [[1], [0]]), as: "R")
    for id in [variableValues[kernel.path], variableValues[recurrence.path]].compactMap({ $0 }) {
      keepWhole(id, "a recurrent layer is not replaced")
    }
    let width = recurrence.tensor.shape[0]
    var bias: ValueID?
    var isLinearBeforeReset = false
    if try hasBias(a) {
      let variable = try stored("\(prefix)bias", a.layer)
      let value = try self.variable(variable, variable.tensor.shape.indices.map { [$0] })
      let isPair = variable.tensor.shape.count == 2
      isLinearBeforeReset = cell == .gru && isPair
      bias = try biases(cell, value, isPair: isPair)
    } else if cell == .gru {
      isLinearBeforeReset = try a.bool("reset_after", true)
    }
    var sequence = try arranged(x, [1, 0, 2])
    var lengths: ValueID?
    var paths: MaskedSteps?
    if let steps {
      let masked = try maskedSteps(steps, isReverse: isReverse, givesZeros: givesZeros)
      sequence = try node(
        "MatMul", [masked.packing, node("Transpose", [sequence], ["perm": .ints([1, 0, 2])], as: "batches")],
        as: "packed")
      sequence = try node("Transpose", [sequence], ["perm": .ints([1, 0, 2])], as: "packed_steps")
      (lengths, paths) = (masked.counts, masked)
    }
    var initial: [ValueID?] = []
    for state in try initialStates(a, count: cell == .lstm ? 2 : 1) {
      initial.append(
        try node("Unsqueeze", [asWritten(cast(state, to: dtype(w))), integers([0], as: "axes")], as: "initial"))
    }
    var attributes: [String: Attribute] = ["hidden_size": .int(width)]
    if isReverse { attributes["direction"] = .string("reverse") }
    if isLinearBeforeReset { attributes["linear_before_reset"] = .int(1) }
    attributes.merge(try activations(cell, a)) { $1 }
    let results = try nodes(
      cell.op, [sequence, w, r, bias, lengths] + initial, attributes, count: cell == .lstm ? 3 : 2)
    let node = NodeSetting(node: lastNode, attribute: "hidden_size")
    settings[node] = a.place("units").map(KerasSetting.literal)
    // (steps, 1, batch, width)
    var y = try self.node("Squeeze", [results[0], integers([1], as: "axes")], as: "sequence")
    if let paths {
      guard initial.isEmpty else { throw unsupported("it starts from a state and has steps that do not count") }
      y = try self.node("Transpose", [y], ["perm": .ints([1, 0, 2])], as: "packed_batches")
      y = try self.node(
        "Transpose", [self.node("MatMul", [paths.spreading, y], as: "spread")], ["perm": .ints([1, 0, 2])], as: "steps")
    }
    var states: [ValueID] = []
    for state in results.dropFirst() {
      states.append(try self.node("Squeeze", [state, integers([0], as: "axes")], as: "state"))
    }
    return RecurrentResult(sequence: y, states: states)
  }

  private func initialStates(_ a: KerasArguments, count: Int) throws(Failure) -> [KerasTensor] {
    // tf.keras 2 has them behind the sequences.
    let states = try a.has("initial_state") ? a.tensors("initial_state") : Array(a["sequences"].tensors.dropFirst())
    if states.isEmpty { return [] }
    guard states.count == count else { throw malformed("it is given \(states.count) states") }
    return states
  }

  // MARK: Weights

  /// Gates in ONNX's order, behind an axis of directions.
  private mutating func stacked(
    _ cell: RecurrentLayers.Cell, _ weight: ValueID, as suffix: String
  ) throws(Failure) -> ValueID {
    try node("Unsqueeze", [reordered(cell, weight, axis: 0), integers([0], as: "axes")], as: suffix)
  }

  private mutating func reordered(
    _ cell: RecurrentLayers.Cell, _ weight: ValueID, axis: Int
  ) throws(Failure) -> ValueID {
    let order = cell.gates
    guard order != Array(order.indices) else { return weight }
    let gates = try nodes(
      "Split", [weight], ["axis": .int(axis), "num_outputs": .int(order.count)], count: order.count, as: "gates")
    return try node("Concat", order.map { gates[$0] }, ["axis": .int(axis)], as: "reordered")
  }

  /// Biases of inputs and of states: (1, 2 * gates * width).
  private mutating func biases(
    _ cell: RecurrentLayers.Cell, _ bias: ValueID, isPair: Bool
  ) throws(Failure) -> ValueID {
    if isPair {
      guard cell == .gru else { throw malformed("it has two biases") }
      // One row behind the other.
      let rows = try nodes("Split", [bias], ["axis": .int(0), "num_outputs": .int(2)], count: 2, as: "rows")
      return try node("Concat", rows, ["axis": .int(1)], as: "B")
    }
    let own = try reordered(cell, bias, axis: 0)
    // States have none: zeros, as many.
    let none = try node("Sub", [own, own], as: "none")
    let both = try node("Concat", [own, none], ["axis": .int(0)], as: "both")
    return try node("Unsqueeze", [both, integers([0], as: "axes")], as: "B")
  }

  // MARK: Activations

  private func activations(_ cell: RecurrentLayers.Cell, _ a: KerasArguments) throws(Failure) -> [String: Attribute] {
    let own = try activation(a, "activation", "tanh")
    let gate = try activation(a, "recurrent_activation", "sigmoid")
    let all: [(name: String, alpha: Float, beta: Float)]
    switch cell {
    case .lstm: all = [gate, own, own]
    case .gru: all = [gate, own]
    case .plain: all = [own]
    }
    let usual = cell == .plain ? ["Tanh"] : cell == .gru ? ["Sigmoid", "Tanh"] : ["Sigmoid", "Tanh", "Tanh"]
    guard all.map(\.name) != usual else { return [:] }
    return [
      "activations": .strings(all.map(\.name)), "activation_alpha": .floats(all.map(\.alpha)),
      "activation_beta": .floats(all.map(\.beta)),
    ]
  }

  private func activation(
    _ a: KerasArguments, _ name: StaticString, _ fallback: String
  ) throws(Failure) -> (name: String, alpha: Float, beta: Float) {
    var function = fallback
    if let setting = a.layer.settings[name] {
      function = setting.isNull ? "linear" : setting.string ?? setting["config"]?.string ?? setting.source
    }
    switch function {
    case "tanh": return ("Tanh", 0, 0)
    case "sigmoid": return ("Sigmoid", 0, 0)
    case "relu": return ("Relu", 0, 0)
    case "linear": return ("Affine", 1, 0)
    case "softsign": return ("Softsign", 0, 0)
    case "softplus": return ("Softplus", 0, 0)
    case "elu": return ("Elu", 1, 0)
    case "hard_sigmoid": return ("HardSigmoid", isOfKeras2 ? 0.2 : 1.0 / 6, 0.5)
    default: throw unsupported("its \(name) '\(function.prefix(80))' has no form in ONNX's recurrent operators")
    }
  }
}
