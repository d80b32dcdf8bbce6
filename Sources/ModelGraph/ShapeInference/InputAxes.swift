/// The axes of a graph's inputs: which lengths the file fixes, which it leaves open, and what the caller says of them.
///
/// Invariant: axes with the same name are one open axis; an axis whose name is an expression of others ("past + 1") is
/// derived from them and never chosen.
struct InputAxes {
  enum Length {
    case fixed(Int)
    /// Index into `open`.
    case open(Int)
    case derived(String, SymbolicLength)
  }

  /// A length that somebody has to choose.
  struct OpenAxis {
    /// nil for an axis without a name.
    let symbol: String?
    let role: Role
    /// The axis' position and its value's rank, of the first input that has it.
    let position: Position
    /// What the caller wants it to be.
    var given: Int?
  }

  struct Position: Hashable {
    let axis: Int
    let rank: Int
  }

  /// What an axis most likely stands for, judged by its place.
  enum Role: CaseIterable {
    case batch, channel, spatial, sequence
  }

  /// Inputs leave at most this many lengths open; the largest real ones, decoders with a cache, leave a handful.
  static let limit = 512

  private(set) var open: [OpenAxis] = []
  private(set) var lengths: [(input: ValueID, axes: [Length])] = []
  private let given: [ValueID: [Int]]

  /// - Parameter shapes: the shapes that the caller gave, by input name.
  /// - Throws: `inputShapeMismatch` where they do not fit the inputs, and where an input has no shape at all.
  init(of graph: Graph, given shapes: [String: [Int]]) throws(Failure) {
    given = try Self.match(shapes, graph)
    let declared = graph.inputs.flatMap { graph[$0].declaredShape ?? [] }
    let names = Set(
      declared.compactMap { dimension -> String? in
        if case .symbol(let name) = dimension { name } else { nil }
      })
    var indices: [String: Int] = [:]

    for input in graph.inputs {
      guard let declared = graph[input].declaredShape else {
        if let shape = given[input] {
          lengths.append((input, shape.map(Length.fixed)))
        } else if !graph.uses(of: input).isEmpty {
          throw Failure(
            .inputShapeMismatch,
            "the file declares no shape for input '\(graph[input].name)'; pass one in input_shapes under that name",
            details: ["input": .string(graph[input].name)])
        }
        continue
      }
      var axes: [Length] = []
      for (axis, dimension) in declared.enumerated() {
        let position = Position(axis: axis, rank: declared.count)
        let symbol: String?
        switch dimension {
        case .fixed(let length) where length >= 0:
          // Some writers mean an open length by 0: the caller may say what it is.
          axes.append(.fixed(length > 0 ? length : given[input]?[axis] ?? 0))
          continue
        // ... or by -1, which no length is.
        case .fixed, .unknown: symbol = nil
        case .symbol(let name): symbol = name
        }
        if let symbol {
          if let expression = SymbolicLength(symbol), expression.symbols.isSubset(of: names) {
            axes.append(.derived(symbol, expression))
            continue
          }
          if let index = indices[symbol] {
            try agree(index, given[input]?[axis], symbol)
            axes.append(.open(index))
            continue
          }
          indices[symbol] = open.count
        }
        guard open.count < Self.limit else {
          throw Failure(.resourceLimit, "the inputs leave more than \(Self.limit) lengths open")
        }
        axes.append(.open(open.count))
        open.append(
          OpenAxis(
            symbol: symbol, role: Self.role(position, of: declared), position: position, given: given[input]?[axis]))
      }
      lengths.append((input, axes))
    }
  }

  /// The given shapes by input, each fitting its input's declaration.
  private static func match(_ shapes: [String: [Int]], _ graph: Graph) throws(Failure) -> [ValueID: [Int]] {
    var given: [ValueID: [Int]] = [:]
    for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
      guard let input = graph.inputs.first(where: { graph[$0].name == name }) else {
        let names = graph.inputs.map { "'\(graph[$0].name)'" }.joined(separator: ", ")
        throw Failure(
          .inputShapeMismatch, "the model has no input '\(name)'; its inputs are \(names)",
          details: ["input": .string(name), "inputs": .strings(graph.inputs.map { graph[$0].name })])
      }
      let declared = graph[input].declaredShape
      let fits =
        declared.map { declared in
          declared.count == shape.count
            && zip(declared, shape).allSatisfy { dimension, length in
              if case .fixed(let fixed) = dimension, fixed > 0 { fixed == length } else { true }
            }
        } ?? true
      guard fits, shape.allSatisfy({ $0 > 0 }), ShapeLimits.allow(shape) else {
        let stated = declared.map { "[\($0.map(\.description).joined(separator: ", "))]" } ?? "any shape"
        throw Failure(
          .inputShapeMismatch,
          "input '\(name)' is declared as \(stated), which the given shape \(shape) does not fit",
          details: ["input": .string(name), "given": .ints(shape), "declared": .string(stated)])
      }
      given[input] = shape
    }
    return given
  }

  /// Notes that `open[index]` is `length` where the caller says so, unless that contradicts what was said before.
  private mutating func agree(_ index: Int, _ length: Int?, _ symbol: String) throws(Failure) {
    guard let length else { return }
    if let before = open[index].given, before != length {
      throw Failure(
        .inputShapeMismatch,
        "the given shapes make '\(symbol)' both \(before) and \(length); the file uses one length for all its axes",
        details: ["symbol": .string(symbol), "given": .ints([before, length])])
    }
    open[index].given = length
  }

  private static func role(_ position: Position, of declared: [Dimension]) -> Role {
    // Where nothing but the last axis has a length, that is the channels'.
    let isChannelsLast = declared.dropFirst().enumerated().allSatisfy { place, dimension in
      if case .fixed = dimension { place == declared.count - 2 } else { place < declared.count - 2 }
    }
    return switch (position.axis, position.rank) {
    case (0, _): .batch
    case (1, 4...): isChannelsLast ? .spatial : .channel
    case (_, 4...): .spatial
    default: .sequence
    }
  }

  /// The inputs' shapes with `chosen[i]` for `open[i]`; nil if a derived length comes out as no length.
  func lengths(_ chosen: [Int]) -> InputLengths? {
    var symbols: [String: Int] = [:]
    for (axis, length) in zip(open, chosen) {
      if let symbol = axis.symbol { symbols[symbol] = length }
    }
    var shapes: [ValueID: [Int]] = [:]
    for (input, axes) in lengths {
      var shape: [Int] = []
      for axis in axes {
        switch axis {
        case .fixed(let length): shape.append(length)
        case .open(let index): shape.append(chosen[index])
        case .derived(let name, let expression):
          guard let length = expression.value(symbols) else { return nil }
          symbols[name] = length
          shape.append(length)
        }
      }
      shapes[input] = shape
    }
    return InputLengths(shapes: shapes, symbols: symbols)
  }

  /// Throws where a derived length of `lengths` is not what the caller gave.
  func requireGiven(_ lengths: InputLengths, in graph: Graph) throws(Failure) {
    for (input, shape) in given.sorted(by: { $0.key < $1.key }) {
      guard let used = lengths.shapes[input], used != shape else { continue }
      throw Failure(
        .inputShapeMismatch,
        "input '\(graph[input].name)' is given as \(shape), but the lengths of the other inputs make it \(used); "
          + "pass input_shapes for them too",
        details: ["input": .string(graph[input].name), "given": .ints(shape)])
    }
  }
}

extension Dimension: CustomStringConvertible {
  package var description: String {
    switch self {
    case .fixed(let length): "\(length)"
    case .symbol(let name): name
    case .unknown: "?"
    }
  }
}
