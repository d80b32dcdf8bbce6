import ModelGraph

/// Layers that ONNX has no operators for: each is one node of a domain of its own, of which no more is known than what
/// it reads and which shapes it returns. No rule says how channels go through it, so that what it reads and returns
/// keeps them all, while the rest of the network is pruned as any.
///
/// Invariant: such a graph is never run; whoever wants to is told which layer is in the way (`ONNXWriter`).
enum OpaqueLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [:]
    for rank in 1...3 {
      table["ConvLSTM\(rank)D"] = KerasRule("sequences initial_state mask") { (l, a) throws(Failure) in
        let x = try l.sequences(a)
        return try l.opaque(a, [x], returning: l.recurrentShapes(a.layer, of: l.lengths(x)))
      }
    }
    return table
  }()
}

extension KerasLowering {
  /// What `body` makes of a layer; where it says that ONNX has no form for it, one node.
  /// - Parameters:
  ///   - inputs: that the layer reads.
  ///   - shapes: of what it returns, in Keras's order of axes, by those of what it reads.
  mutating func runnable(
    _ a: KerasArguments, _ inputs: [KerasTensor], _ body: (inout KerasLowering) throws(Failure) -> LoweredOperand,
    orOpaqueOf shapes: (KerasLowering) throws(Failure) -> [[OpaqueLength]]
  ) throws(Failure) -> LoweredOperand {
    let before = self
    do throws(Failure) {
      return try body(&self)
    } catch {
      guard error.kind == .modelUnsupportedOperator else { throw error }
      self = before
      return try opaque(a, inputs, returning: shapes(self))
    }
  }

  /// One node that stands for the layer.
  mutating func opaque(
    _ a: KerasArguments, _ inputs: [KerasTensor], returning shapes: [[OpaqueLength]]
  ) throws(Failure) -> LoweredOperand {
    var operands: [ValueID?] = []
    for input in inputs { operands.append(try asWritten(input)) }
    for variable in a.layer.variables {
      operands.append(try self.variable(variable, variable.tensor.shape.indices.map { [$0] }))
    }
    let results: [ValueID]
    do throws(Failure) {
      results = try assembler.node(
        a.layer.className, domain: Node.opaqueDomain, operands, OpaqueLength.attributes(shapes), name: base,
        outputCount: shapes.count, dtype: variableType(a.layer) ?? .float32)
    } catch {
      throw malformed(error.message)
    }
    let tensors = results.map { LoweredOperand.tensor(tensor($0)) }
    return tensors.count == 1 ? tensors[0] : .list(tensors)
  }

  // MARK: Shapes

  /// The axes of the first tensor that an opaque layer reads, as they come.
  func lengths(_ x: KerasTensor) -> [OpaqueLength] { (0..<rank(x)).map { .axis($0) } }

  /// The tensor that a recurrent layer runs over.
  func sequences(_ a: KerasArguments) throws(Failure) -> KerasTensor {
    guard let x = a["sequences"].tensors.first else { throw unsupported("it is given no tensor to run over") }
    return x
  }

  /// What a recurrent layer returns for `input`, (batch, steps, ...): its output, and its states if it returns these.
  func recurrentShapes(_ layer: KerasLayer, of input: [OpaqueLength]) throws(Failure) -> [[OpaqueLength]] {
    if layer.className == "Bidirectional" {
      guard let one = layer.part("forward_layer") ?? layer.part("layer") else {
        throw malformed("it has not two layers")
      }
      let shapes = try recurrentShapes(one, of: input)
      var outputs = [shapes[0]]
      switch layer.settings["merge_mode"] {
      case let mode? where mode.isNull: outputs.append(shapes[0])
      case let mode? where !mode.equals("concat"): break
      default: outputs[0] = shapes[0].dropLast() + shapes[0].suffix(1).map { $0.multiplied(by: 2) }
      }
      return outputs + shapes.dropFirst() + shapes.dropFirst()
    }
    func flag(_ name: StaticString) -> Bool { layer.settings[name]?.bool ?? false }
    guard input.count >= 3, !flag("time_major") else { throw unsupported("it runs over \(input.count) axes") }
    let states = try stateShapes(layer, of: [input[0]] + input.dropFirst(2))
    guard let last = states.last?.first else { throw malformed("it has no cells") }
    let output = flag("return_sequences") ? [input[0], input[1]] + last.dropFirst() : last
    return [output] + (flag("return_state") ? states.flatMap { $0 } : [])
  }

  /// The shapes of the states by cell, that which is its output first.
  /// - Parameter input: of one step.
  private func stateShapes(_ layer: KerasLayer, of input: [OpaqueLength]) throws(Failure) -> [[[OpaqueLength]]] {
    let a = try KerasArguments(layer, parameters: [], GivenArguments(), context: context)
    switch layer.className {
    case "LSTM", "LSTMCell":
      let state = [input[0], .fixed(try a.int("units"))]
      return [[state, state]]
    case "GRU", "GRUCell", "SimpleRNN", "SimpleRNNCell": return [[[input[0], .fixed(try a.int("units"))]]]
    case "RNN":
      guard let cell = layer.part("cell") else { throw malformed("it has no cell") }
      return try stateShapes(cell, of: input)
    case "StackedRNNCells":
      var (states, input) = ([[[OpaqueLength]]](), input)
      for part in layer.parts {
        states += try stateShapes(part.layer, of: input)
        input = states.last?.first ?? input
      }
      return states
    case "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D":
      let rank = input.count - 2
      let geometry = try geometry(a, kernel: a.ints("kernel_size", count: rank))
      let filters = OpaqueLength.fixed(try a.int("filters"))
      let isChannelsFirst = try a.isChannelsFirst()
      let spatial = geometry.outputLengths(Array(isChannelsFirst ? input[2...] : input[1..<rank + 1]))
      let state = [input[0]] + (isChannelsFirst ? [filters] + spatial : spatial + [filters])
      return [[state, state]]
    default:
      throw layer.kind == .foreign ? foreign(layer) : unsupported("it runs a \(layer.className), which is not known")
    }
  }
}
