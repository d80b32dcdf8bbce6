import ModelGraph

/// LSTM, GRU and plain recurrent layers, whose gates PyTorch and ONNX keep in different orders.
enum RecurrentOperators {
  static let functions: [String: TorchFunction] = [
    "lstm": TorchFunction(
      "input hx params has_biases num_layers dropout train bidirectional batch_first"
    ) { (l, a) throws(Failure) in
      try l.recurrent(.lstm, a)
    },
    "gru": TorchFunction(
      "input hx params has_biases num_layers dropout train bidirectional batch_first"
    ) { (l, a) throws(Failure) in
      try l.recurrent(.gru, a)
    },
  ]

  enum Cell {
    case lstm, gru, tanh
    var op: String {
      switch self {
      case .lstm: "LSTM"
      case .gru: "GRU"
      case .tanh: "RNN"
      }
    }
    /// ONNX's gates, by their places in PyTorch's order.
    var gates: [Int] {
      switch self {
      case .lstm: [0, 3, 1, 2]
      case .gru: [1, 0, 2]
      case .tanh: [0]
      }
    }
  }

  static func apply(
    _ module: TorchModule, _ given: TorchLowering.Given, _ l: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    let a = try OperatorArguments(parameters: ["input", "hx"], given: given, context: l.context)
    let cell: Cell = module.className == "LSTM" ? .lstm : module.className == "GRU" ? .gru : .tanh
    if cell == .tanh, module.attributes["nonlinearity"] == .string("relu") { throw l.unsupported("it applies ReLU") }
    guard (TorchModules.int("proj_size", module) ?? 0) == 0 else { throw l.unsupported("it projects its state") }
    let layers = TorchModules.int("num_layers", module) ?? 1
    let directions = module.attributes["bidirectional"] == .bool(true) ? 2 : 1
    let hasBias = module.attributes["bias"] != .bool(false)
    var parameters: [ValueID] = []
    for layer in 0..<layers {
      for suffix in ["", "_reverse"].prefix(directions) {
        for name in ["weight_ih", "weight_hh"] + (hasBias ? ["bias_ih", "bias_hh"] : []) {
          guard let id = try TorchModules.tensor("\(name)_l\(layer)\(suffix)", module, &l) else {
            throw l.malformed("it has no \(name)_l\(layer)\(suffix)")
          }
          parameters.append(id)
        }
      }
    }
    var states: [ValueID]?
    switch a["hx"] {
    case .none: break
    case .tensor(let id): states = [id]
    case .list: states = try a.tensors("hx")
    default: throw l.unsupported("its state is \(a["hx"].kind)")
    }
    let (output, final) = try l.recurrent(
      cell, a.tensor("input"), parameters, states: states, hasBias: hasBias, layers: layers, directions: directions,
      isBatchFirst: module.attributes["batch_first"] == .bool(true))
    return .list([
      .tensor(output), final.count == 1 ? .tensor(final[0]) : .list(final.map(TorchValue.tensor)),
    ])
  }
}

extension TorchLowering {
  fileprivate mutating func recurrent(
    _ cell: RecurrentOperators.Cell, _ a: OperatorArguments
  ) throws(Failure) -> TorchValue {
    let states: [ValueID]
    if case .tensor(let id) = a["hx"] { states = [id] } else { states = try a.tensors("hx") }
    let (output, final) = try recurrent(
      cell, a.tensor("input"), a.tensors("params"), states: states, hasBias: a.bool("has_biases", true),
      layers: a.int("num_layers"), directions: a.bool("bidirectional", false) ? 2 : 1,
      isBatchFirst: a.bool("batch_first", false))
    return .list([.tensor(output)] + final.map(TorchValue.tensor))
  }

  /// - Parameters:
  ///   - parameters: per layer and direction: input weights, state weights, and their biases.
  ///   - states: [layers * directions, batch, hidden]; nil for zeros.
  /// - Returns: [length, batch, directions * hidden] (batch first as asked), and the last states.
  fileprivate mutating func recurrent(
    _ cell: RecurrentOperators.Cell, _ input: ValueID, _ parameters: [ValueID], states: [ValueID]?, hasBias: Bool,
    layers: Int, directions: Int, isBatchFirst: Bool
  ) throws(Failure) -> (output: ValueID, final: [ValueID]) {
    let perCell = hasBias ? 4 : 2
    guard try rank(input) == 3 else { throw unsupported("it takes no batch") }
    guard parameters.count == layers * directions * perCell else { throw malformed("its parameters do not add up") }
    // The file holds the hidden size in several places and shapes, and the module checks them: it stays.
    for id in parameters { fixed[id] = "the recurrent layer '\(base)' keeps its sizes" }
    var x = isBatchFirst ? try node("Transpose", [input], ["perm": .ints([1, 0, 2])], as: "sequence") : input
    var final: [[ValueID]] = []
    let name = base
    for layer in 0..<layers {
      base = layers > 1 ? "\(name).layer\(layer)" : name
      let own = (0..<directions).map { d in
        Array(parameters[((layer * directions + d) * perCell)...].prefix(perCell))
      }
      let hidden = try shape(own[0][1])[1]
      let w = try stacked(cell, own.map { $0[0] }, as: "W")
      let r = try stacked(cell, own.map { $0[1] }, as: "R")
      var b: ValueID?
      if hasBias {
        var rows: [ValueID] = []
        for d in own {
          let both = try [reordered(cell, d[2]), reordered(cell, d[3])]
          rows.append(
            try node(
              "Unsqueeze", [node("Concat", both, ["axis": .int(0)], as: "B"), integers([0], as: "axes")], as: "B"))
        }
        b = rows.count == 1 ? rows[0] : try node("Concat", rows, ["axis": .int(0)], as: "B")
      }
      var initial: [ValueID?] = []
      for state in states ?? [] {
        let range = try sliced(
          state, [(0, TorchInteger(layer * directions), TorchInteger((layer + 1) * directions), 1)])
        initial.append(range)
      }
      var attributes: [String: Attribute] = ["hidden_size": .int(hidden)]
      if directions == 2 { attributes["direction"] = .string("bidirectional") }
      if cell == .gru { attributes["linear_before_reset"] = .int(1) }
      let results = try nodes(
        cell.op, [x, w, r, b, nil] + initial, attributes, count: cell == .lstm ? 3 : 2)
      // [length, directions, batch, hidden] to [length, batch, directions * hidden].
      if directions == 1 {
        x = try node("Squeeze", [results[0], integers([1], as: "axes")], as: "sequence")
      } else {
        let turned = try node("Transpose", [results[0]], ["perm": .ints([0, 2, 1, 3])], as: "turned")
        let target = [TorchInteger(0), TorchInteger(0), TorchInteger(-1)]
        x = try node("Reshape", [turned, vector(target, as: "joined")], as: "sequence")
      }
      final.append(Array(results.dropFirst()))
    }
    base = name
    let output = isBatchFirst ? try node("Transpose", [x], ["perm": .ints([1, 0, 2])], as: "output") : x
    var last: [ValueID] = []
    for k in final[0].indices {
      let all = final.map { $0[k] }
      last.append(all.count == 1 ? all[0] : try node("Concat", all, ["axis": .int(0)], as: "state"))
    }
    return (output, last)
  }

  private mutating func stacked(
    _ cell: RecurrentOperators.Cell, _ weights: [ValueID], as suffix: String
  ) throws(Failure) -> ValueID {
    var rows: [ValueID] = []
    for weight in weights {
      rows.append(
        try node("Unsqueeze", [reordered(cell, weight), integers([0], as: "axes")], as: suffix))
    }
    return rows.count == 1 ? rows[0] : try node("Concat", rows, ["axis": .int(0)], as: suffix)
  }

  private mutating func reordered(_ cell: RecurrentOperators.Cell, _ weight: ValueID) throws(Failure) -> ValueID {
    let order = cell.gates
    if order.count == 1 { return weight }
    let gates = try parts(of: weight, axis: 0, sizes: nil, count: order.count)
    return try node("Concat", order.map { gates[$0] }, ["axis": .int(0)], as: "gates")
  }
}
