import JSON
import ModelGraph

/// LSTM, GRU and plain recurrent layers, whose gates Keras and ONNX keep in different orders. The state's width can be
/// cut: the file has it in one setting and in the variables. Those that keep their state from one batch to the next
/// start from none here, as they do once they are reset.
enum RecurrentLayers {
  static let rules: [String: KerasRule] = {
    var table = [
      "RNN": KerasRule("sequences initial_state mask") { (l, a) throws(Failure) in
        try l.recurrentLayer(a) { (l) throws(Failure) in try l.cells(of: a) }
      }
    ]
    for (name, cell) in layers {
      table[name] = KerasRule("sequences initial_state mask") { (l, a) throws(Failure) in
        try l.recurrentLayer(a) { (_) throws(Failure) in [(cell, a)] }
      }
    }
    return table
  }()

  static let layers: [String: Cell] = ["LSTM": .lstm, "GRU": .gru, "SimpleRNN": .plain]
  fileprivate static let cells: [String: Cell] = ["LSTMCell": .lstm, "GRUCell": .gru, "SimpleRNNCell": .plain]

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
  /// - Parameter cells: one, or several that run on what those before return.
  fileprivate mutating func recurrentLayer(
    _ a: KerasArguments,
    _ cells: (inout KerasLowering) throws(Failure) -> [(kind: RecurrentLayers.Cell, arguments: KerasArguments)]
  ) throws(Failure) -> LoweredOperand {
    let x = try sequences(a)
    return try runnable(a, a["sequences"].tensors) { (l) throws(Failure) in
      try l.recurrentLayer(a, cells(&l))
    } orOpaqueOf: { (l) throws(Failure) in
      try l.recurrentShapes(a.layer, of: l.lengths(x))
    }
  }

  private mutating func recurrentLayer(
    _ a: KerasArguments, _ cells: [(kind: RecurrentLayers.Cell, arguments: KerasArguments)]
  ) throws(Failure) -> LoweredOperand {
    let goesBackwards = try a.bool("go_backwards", false)
    let givesZeros = try a.bool("zero_output_for_mask", false)
    let isTimeMajor = try a.bool("time_major", false)
    if givesZeros, try !a.bool("return_sequences", false) {
      throw unsupported("it returns zeros where the last step does not count")
    }
    var results: [RecurrentResult] = []
    for (kind, arguments) in cells {
      var arguments = arguments
      if let before = results.last {
        arguments = try KerasArguments(
          arguments.layer, parameters: ["sequences"],
          GivenArguments(positional: [.tensor(tensor(before.sequence, isTimeMajor ? nil : [1, 0, 2]))]),
          context: context)
      }
      results += try recurrent(
        kind, [arguments], isReverse: goesBackwards, givesZeros: givesZeros, isTimeMajor: isTimeMajor)
    }
    guard let last = results.last else { throw malformed("it has no cells") }
    var output: KerasTensor
    if try a.bool("return_sequences", false) {
      var sequence = last.sequence
      if goesBackwards {
        // As they were computed: the last step first.
        let bounds = (integers([-1], as: "start"), integers([Int.min], as: "end"))
        sequence = try node(
          "Slice", [sequence, bounds.0, bounds.1, integers([0], as: "axes"), integers([-1], as: "steps")], as: "turned")
      }
      output = tensor(sequence, isTimeMajor ? nil : [1, 0, 2])
    } else {
      output = tensor(last.states[0])
    }
    guard try a.bool("return_state", false) else { return .tensor(output) }
    return .list([.tensor(output)] + results.flatMap(\.states).map { .tensor(tensor($0)) })
  }

  /// The cells of an RNN with what each is given of what that is given.
  fileprivate func cells(
    of a: KerasArguments
  ) throws(Failure) -> [(kind: RecurrentLayers.Cell, arguments: KerasArguments)] {
    guard let cell = a.layer.part("cell") else { throw malformed("it has no cell") }
    let layers = cell.className == "StackedRNNCells" ? cell.parts.map(\.layer) : [cell]
    let x = try sequences(a)
    let isMasked = a.has("mask") || masks[x] != nil
    guard layers.count == 1 || !isMasked && !a.has("initial_state") else {
      throw unsupported("several cells start from states or skip steps")
    }
    var cells: [(kind: RecurrentLayers.Cell, arguments: KerasArguments)] = []
    for layer in layers {
      guard layer.kind != .foreign else { throw foreign(layer) }
      guard let kind = RecurrentLayers.cells[layer.className] else {
        throw unsupported("it runs a \(layer.className), which is not known")
      }
      var given = GivenArguments(positional: [a["sequences"]])
      for name: StaticString in ["initial_state", "mask"] where a.has(name) {
        given.keywords.append((name.description, a[name]))
      }
      cells.append((kind, try KerasArguments(layer, parameters: ["sequences"], given, context: context)))
    }
    return cells
  }

  /// - Parameters:
  ///   - ways: one layer, or two that run through time in opposite directions, the one that goes forward first.
  ///   - isReverse: whether a single one runs through time from its end.
  ///   - givesZeros: whether steps that do not count have zeros instead of what came last.
  ///   - isTimeMajor: whether steps come before samples.
  /// - Returns: one result for each way.
  mutating func recurrent(
    _ cell: RecurrentLayers.Cell, _ ways: [KerasArguments], isReverse: Bool, givesZeros: Bool,
    isTimeMajor: Bool = false
  ) throws(Failure) -> [RecurrentResult] {
    guard let a = ways.first else { throw malformed("it has no layer") }
    let x = try sequences(a)
    guard rank(x) == 3 else { throw malformed("it runs over a tensor of \(rank(x)) axes") }
    let weights = try weights(cell, ways)
    let initial = try initialStates(a, count: cell == .lstm ? 2 : 1, dtype(weights.input))
    var sequence = try isTimeMajor ? asWritten(x) : arranged(x, [1, 0, 2])
    var masked: MaskedSteps?
    if let steps = try a.optionalTensor("mask") ?? masks[x] {
      guard initial.isEmpty, !isTimeMajor else {
        throw unsupported("it starts from a state and has steps that do not count")
      }
      let paths = try maskedSteps(steps, isReverse: isReverse, givesZeros: givesZeros)
      sequence = try overBatches(paths.packing, sequence, as: "packed")
      masked = paths
    }
    var attributes: [String: Attribute] = ["hidden_size": .int(weights.width)]
    if ways.count == 2 || isReverse { attributes["direction"] = .string(isReverse ? "reverse" : "bidirectional") }
    if weights.isLinearBeforeReset { attributes["linear_before_reset"] = .int(1) }
    attributes.merge(try activations(cell, ways)) { $1 }
    let results = try nodes(
      cell.op, [sequence, weights.input, weights.state, weights.bias, masked?.counts] + initial, attributes,
      count: cell == .lstm ? 3 : 2)
    // Of two, the widths are in two places, which follow the variables.
    settings[NodeSetting(node: lastNode, attribute: "hidden_size")] =
      ways.count == 2 ? .follows : a.place("units").map(KerasSetting.literal)
    // (steps, ways, batch, width), and (ways, batch, width) each.
    let sequences = try oneByOne(results[0], ways.count, axis: 1, as: "sequence")
    var states: [[ValueID]] = []
    for state in results.dropFirst() { states.append(try oneByOne(state, ways.count, axis: 0, as: "state")) }
    var made: [RecurrentResult] = []
    for (way, sequence) in sequences.enumerated() {
      let spread = if let masked { try overBatches(masked.spreading, sequence, as: "spread") } else { sequence }
      made.append(RecurrentResult(sequence: spread, states: states.map { $0[way] }))
    }
    return made
  }

  /// A product by a matrix for every sample, of a value (steps, batch, width).
  private mutating func overBatches(
    _ matrices: ValueID, _ x: ValueID, as suffix: String
  ) throws(Failure) -> ValueID {
    let batches = try node("Transpose", [x], ["perm": .ints([1, 0, 2])], as: "batches")
    let product = try node("MatMul", [matrices, batches], as: suffix)
    return try node("Transpose", [product], ["perm": .ints([1, 0, 2])], as: "steps")
  }

  /// What lies along an axis of ways, without it.
  private mutating func oneByOne(
    _ x: ValueID, _ count: Int, axis: Int, as suffix: String
  ) throws(Failure) -> [ValueID] {
    let parts =
      count == 1
      ? [x] : try nodes("Split", [x], ["axis": .int(axis), "num_outputs": .int(count)], count: count, as: "ways")
    var result: [ValueID] = []
    for part in parts { result.append(try node("Squeeze", [part, integers([axis], as: "axes")], as: suffix)) }
    return result
  }

  private mutating func initialStates(
    _ a: KerasArguments, count: Int, _ type: DType
  ) throws(Failure) -> [ValueID?] {
    // tf.keras 2 has them behind the sequences.
    let states = try a.has("initial_state") ? a.tensors("initial_state") : Array(a["sequences"].tensors.dropFirst())
    if states.isEmpty { return [] }
    guard states.count == count else { throw malformed("it is given \(states.count) states") }
    var initial: [ValueID?] = []
    for state in states {
      let value = try asWritten(cast(state, to: type))
      initial.append(try node("Unsqueeze", [value, integers([0], as: "axes")], as: "initial"))
    }
    return initial
  }

  // MARK: Weights

  /// The weights of all ways, as ONNX's recurrent operators have them.
  private struct Weights {
    let input: ValueID
    let state: ValueID
    let bias: ValueID?
    let width: Int
    let isLinearBeforeReset: Bool
  }

  private mutating func weights(
    _ cell: RecurrentLayers.Cell, _ ways: [KerasArguments]
  ) throws(Failure) -> Weights {
    var (inputs, states, biases): ([ValueID], [ValueID], [ValueID]) = ([], [], [])
    var (widths, resets): (Set<Int>, Set<Bool>) = ([], [])
    for a in ways {
      let prefix = a.layer.variable("kernel") == nil ? "cell/" : ""
      let (kernel, recurrence) = (
        try stored("\(prefix)kernel", a.layer), try stored("\(prefix)recurrent_kernel", a.layer)
      )
      // (in, gates * width) as (gates * width, in).
      for (variable, isInput) in [(kernel, true), (recurrence, false)] {
        let weight = try self.variable(variable, [[1], [0]])
        keepWhole(weight, "a recurrent layer is not replaced")
        let gates = try stacked(cell, weight, as: isInput ? "W" : "R")
        if isInput { inputs.append(gates) } else { states.append(gates) }
      }
      widths.insert(recurrence.tensor.shape[0])
      var isPair = try a.bool("reset_after", true)
      if try hasBias(a) {
        let variable = try stored("\(prefix)bias", a.layer)
        isPair = variable.tensor.shape.count == 2
        let value = try self.variable(variable, variable.tensor.shape.indices.map { [$0] })
        biases.append(try self.biases(cell, value, isPair: isPair))
      }
      resets.insert(cell == .gru && isPair)
    }
    guard let width = widths.first, widths.count == 1, resets.count == 1, [0, ways.count].contains(biases.count) else {
      throw unsupported("its two layers differ")
    }
    func joined(_ parts: [ValueID], as name: String, _ l: inout KerasLowering) throws(Failure) -> ValueID {
      parts.count == 1 ? parts[0] : try l.node("Concat", parts, ["axis": .int(0)], as: name)
    }
    return Weights(
      input: try joined(inputs, as: "W", &self), state: try joined(states, as: "R", &self),
      bias: biases.isEmpty ? nil : try joined(biases, as: "B", &self), width: width,
      isLinearBeforeReset: resets.contains(true))
  }

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

  private func activations(
    _ cell: RecurrentLayers.Cell, _ ways: [KerasArguments]
  ) throws(Failure) -> [String: Attribute] {
    var all: [(name: String, alpha: Float, beta: Float)] = []
    for a in ways {
      let own = try activation(a, "activation", "tanh")
      let gate = try activation(a, "recurrent_activation", "sigmoid")
      switch cell {
      case .lstm: all += [gate, own, own]
      case .gru: all += [gate, own]
      case .plain: all += [own]
      }
    }
    let usual = cell == .plain ? ["Tanh"] : cell == .gru ? ["Sigmoid", "Tanh"] : ["Sigmoid", "Tanh", "Tanh"]
    guard all.map(\.name) != ways.flatMap({ _ in usual }) else { return [:] }
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
