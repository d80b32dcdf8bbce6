import ModelGraph

/// How calls of functions come by the weights that they apply: they name a parameter, or what other calls have made of
/// one, each of the result of the one before: turned its axes, or copied it.
///
/// Invariant: what stands on a route is read there and nowhere else, so that nobody misses it.
struct WeightRoutes {
  private let program: TorchProgram
  /// By name: the call that binds it.
  private let calls: [String: Int]
  /// By name: how often it is read.
  private let readers: [String: Int]

  init(_ program: TorchProgram) {
    self.program = program
    var calls: [String: Int] = [:]
    var readers: [String: Int] = [:]
    for (index, call) in program.calls.enumerated() {
      for name in call.results { calls[name] = index }
      for argument in call.arguments { argument.forEachReference { readers[$0, default: 0] += 1 } }
      for keyword in call.keywords { keyword.value.forEachReference { readers[$0, default: 0] += 1 } }
    }
    program.output.forEachReference { readers[$0, default: 0] += 1 }
    (self.calls, self.readers) = (calls, readers)
  }

  /// The calls between the one that applies a weight and the parameter, nearest first; none where it names the parameter
  /// itself. nil if the call applies no weight in that way, or somebody else reads what is on the way.
  func route(of call: Int) -> [Int]? {
    guard let operands = AppliedOperands(program.calls[call]) else { return nil }
    var argument = operands.weight.value(in: program.calls[call])
    var route: [Int] = []
    while true {
      switch argument {
      case .parameter?: return route
      case .reference(let name)?:
        guard let call = calls[name], readers[name] == 1, program.calls[call].results.count == 1 else { return nil }
        route.append(call)
        argument = AppliedOperands.moved.value(in: program.calls[call])
      default: return nil
      }
    }
  }
}

/// Where a function that applies a weight is given it, what it applies it to, and what it adds.
struct AppliedOperands {
  struct Operand {
    let index: Int
    /// By any of which it is given, where not by its position.
    let names: [String]

    func value(in call: TorchCall) -> TorchArgument? {
      if let keyword = call.keywords.first(where: { names.contains($0.name) }) { return keyword.value }
      return index < call.arguments.count ? call.arguments[index] : nil
    }
  }

  let input: Operand
  let weight: Operand
  let bias: Operand?

  /// What a function that moves numbers moves.
  static let moved = Operand(index: 0, names: ["input", "self", "x", "a", "tensor"])

  /// nil for calls of other functions, which apply no weight or have it to themselves.
  init?(_ call: TorchCall) {
    guard case .function(let name) = call.target else { return nil }
    switch name {
    case "addmm":
      input = Operand(index: 1, names: ["mat1"])
      weight = Operand(index: 2, names: ["mat2"])
      bias = Operand(index: 0, names: ["input", "self"])
    case "matmul", "mm":
      input = Operand(index: 0, names: ["input", "self", "a"])
      weight = Operand(index: 1, names: ["other", "mat2", "b"])
      bias = nil
    case "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
      "convolution":
      input = Operand(index: 0, names: ["input"])
      weight = Operand(index: 1, names: ["weight"])
      bias = Operand(index: 2, names: ["bias"])
    default: return nil
    }
  }
}

extension TorchProgram {
  /// Whether functions are given weights at all; modules have their own.
  var appliesWeights: Bool {
    calls.contains { call in
      guard case .function = call.target else { return false }
      return (call.arguments + call.keywords.map(\.value)).contains { if case .parameter = $0 { true } else { false } }
    }
  }
}

extension TorchArgument {
  /// Calls `body` with every name that it refers to.
  fileprivate func forEachReference(_ body: (String) -> Void) {
    switch self {
    case .reference(let name): body(name)
    case .list(let elements), .tuple(let elements): for element in elements { element.forEachReference(body) }
    case .dictionary(let entries): for entry in entries { entry.value.forEachReference(body) }
    case .slice(let start, let end, let step): for part in [start, end, step] { part.forEachReference(body) }
    case .parameter, .none, .bool, .int, .float, .string, .symbol, .ellipsis: break
    }
  }
}
