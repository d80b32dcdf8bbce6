import JSON
import ModelGraph

/// Layers that apply another in a way of their own.
enum WrapperLayers {
  static let rules: [String: KerasRule] = [
    "TimeDistributed": KerasRule { (l, a, x) throws(Failure) in try l.timeDistributed(x, a) },
    "Bidirectional": KerasRule("sequences initial_state mask") { (l, a) throws(Failure) in
      let x = try l.sequences(a)
      return try l.runnable(a, [x]) { (l) throws(Failure) in
        try l.bidirectional(a)
      } orOpaqueOf: { (l) throws(Failure) in
        try l.recurrentShapes(a.layer, of: l.lengths(x))
      }
    },
    "SpectralNormalization": KerasRule { (l, a, x) throws(Failure) in
      // The norm is brought to one in training only; the kernel is stored as it came out.
      let y = try l.applied(a.layer.part("layer"), x)
      for variable in a.layer.part("layer")?.variables ?? [] {
        guard let id = l.variableValues[variable.path] else { continue }
        l.fixed[id] = "'\(l.base)' holds the kernel a second time, and a vector that was measured of it"
      }
      return y
    },
    "Masking": KerasRule { (l, a, x) throws(Failure) in
      let differs = try l.unary(
        "Not", l.binary("Equal", x, a.float("mask_value", 0), as: "is_masked", dtype: .bool), as: "differs")
      let last = l.rank(x) - 1
      let numbers = try l.cast(differs, to: l.dtype(x))
      let mask = try l.cast(l.reduced("ReduceMax", numbers, axes: [last], keepsAxes: false, as: "mask"), to: .bool)
      // What does not count is zero from here on.
      let counts = try l.reduced("ReduceMax", numbers, axes: [last], keepsAxes: true, as: "counts")
      let y = try l.product(x, counts)
      l.masks[y] = mask
      return y
    },
  ]
}

extension KerasLowering {
  /// A layer that is part of another, or the layers of a model one after the other.
  fileprivate mutating func applied(_ layer: KerasLayer?, _ x: KerasTensor) throws(Failure) -> KerasTensor {
    guard let layer else { throw malformed("it wraps no layer") }
    let outer = base
    defer { base = outer }
    if layer.kind == .model, let inner {
      base = "\(outer)/\(layer.name)"
      let result = try run(inner, on: x)
      guard let tensor = result.tensor ?? result.tensors.first, result.tensors.count == 1 else {
        throw unsupported("the model in it returns several tensors")
      }
      return tensor
    }
    if layer.kind == .model {
      guard layer.className == "Sequential" else { throw unsupported("it applies a model of class \(layer.className)") }
      var x = x
      for part in layer.parts where part.layer.className != "InputLayer" { x = try applied(part.layer, x) }
      return x
    }
    base = "\(outer)/\(layer.name)"
    guard let result = try apply(layer, GivenArguments(positional: [.tensor(x)])).tensor else {
      throw unsupported("the layer in it returns several tensors")
    }
    return result
  }

  /// Every step by itself: steps and batch are one.
  fileprivate mutating func timeDistributed(_ x: KerasTensor, _ a: KerasArguments) throws(Failure) -> KerasTensor {
    guard let layer = a.layer.part("layer") else { throw malformed("it wraps no layer") }
    // What runs along the last axis alone does not tell steps from samples.
    if ["Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "Identity"].contains(layer.className) {
      return try applied(layer, x)
    }
    let rank = rank(x)
    guard rank >= 3 else { throw malformed("it takes \(rank) axes") }
    let source = primary(x)
    let axes = Array(source.axes.prefix(2)) == [0, 1] ? source.axes : Array(0..<rank)
    let value = try arranged(x, axes)
    let rest = try node("Shape", [value], ["start": .int(2)], as: "rest")
    let flatShape = try node("Concat", [integers([-1], as: "all"), rest], ["axis": .int(0)], as: "samples_shape")
    let flat = try node("Reshape", [value, flatShape], as: "samples")
    let result = try applied(layer, tensor(flat, [0] + axes.dropFirst(2).map { $0 - 1 }))
    let y = primary(result)
    let steps = try length(value, 1)
    let made = try node("Shape", [y.value], ["start": .int(1)], as: "made")
    guard y.axes.first == 0 else { throw unsupported("the layer in it moves samples") }
    let target = try node("Concat", [integers([-1], as: "batch"), steps, made], ["axis": .int(0)], as: "steps_shape")
    return tensor(try node("Reshape", [y.value, target]), [0, 1] + y.axes.dropFirst().map { $0 + 1 })
  }

  fileprivate mutating func bidirectional(_ a: KerasArguments) throws(Failure) -> LoweredOperand {
    guard let forward = a.layer.part("forward_layer") ?? a.layer.part("layer"),
      let backward = a.layer.part("backward_layer")
    else { throw malformed("it has not two layers") }
    guard !a.has("initial_state") else { throw unsupported("it starts from a state") }
    guard let cell = RecurrentLayers.layers[forward.className], forward.settings["time_major"]?.bool != true,
      backward.className == forward.className,
      backward.settings["go_backwards"]?.bool != false || a.layer.settings["backward_layer"] == nil,
      forward.settings["go_backwards"]?.bool != true
    else { throw unsupported("it applies \(forward.className) and \(backward.className)") }
    let given = GivenArguments(
      positional: [.tensor(try a.tensor("sequences"))], keywords: a.has("mask") ? [("mask", a["mask"])] : [])
    var both: [KerasArguments] = []
    for layer in [forward, backward] {
      both.append(try KerasArguments(layer, parameters: ["sequences"], given, context: context))
    }
    // Steps that do not count have zeros here, whatever the layers say.
    let returnsSequences = forward.settings["return_sequences"]?.bool == true
    let results = try recurrent(cell, both, isReverse: false, givesZeros: returnsSequences)
    let (there, back) = (results[0], results[1])
    let ways = [there, back].map { way in
      returnsSequences ? tensor(way.sequence, [1, 0, 2]) : tensor(way.states[0])
    }
    var outputs: [LoweredOperand]
    let mode = a.layer.settings["merge_mode"]
    switch mode.flatMap({ $0.isNull ? "none" : $0.string }) ?? "concat" {
    case "concat": outputs = [.tensor(try concatenated(ways, axis: -1))]
    case "sum": outputs = [.tensor(try binary("Add", ways[0], ways[1]))]
    case "mul": outputs = [.tensor(try binary("Mul", ways[0], ways[1]))]
    case "ave": outputs = [.tensor(try binary("Mul", binary("Add", ways[0], ways[1], as: "sum"), 0.5))]
    case "none": outputs = ways.map(LoweredOperand.tensor)
    case let other: throw unsupported("its merge_mode is '\(other)'")
    }
    if forward.settings["return_state"]?.bool == true {
      outputs += (there.states + back.states).map { .tensor(tensor($0)) }
    }
    return outputs.count == 1 ? outputs[0] : .list(outputs)
  }
}
