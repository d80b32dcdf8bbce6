import JSON
import ModelGraph

/// The sizes, strides and offsets of all values of a program once some have become shorter, and the integers that are
/// computed from them.
///
/// Invariant: only what differs from the file is held. Values of unchanged sizes follow too where they are views of
/// changed ones.
struct EditedLayouts {
  private let exported: ExportedProgram
  private let expressions: SizeExpressions
  /// By the name of the value; those of parameters by the graph's names for them.
  private(set) var changed: [String: TensorLayout] = [:]
  /// By name, the integers that calls compute.
  private(set) var changedIntegers: [String: SizeExpression] = [:]
  private let integers: [String: JSONElement]
  /// By state-dict name, the graph's input.
  private let inputs: [String: String]
  private var old: [String: TensorLayout] = [:]
  /// Values for open lengths by which expressions are compared: large primes, which no product of sizes has by accident.
  let probe: [String: Int]
  /// Values for open lengths under which new lengths are given.
  private let symbols: [String: Int]

  init(
    _ exported: ExportedProgram, _ expressions: SizeExpressions, graph: JSONElement, symbols: [String: Int]
  ) {
    (self.exported, self.expressions) = (exported, expressions)
    inputs = exported.parameterNames.reduce(into: [:]) { $0[$1.value] = $1.key }
    var integers: [String: JSONElement] = [:]
    if let table = graph["sym_int_values"] {
      for (name, value) in table.members { integers[name.string ?? ""] = value }
    }
    self.integers = integers
    let primes = [10_007, 10_009, 10_037, 10_039, 10_061, 10_067, 10_069, 10_079, 10_091, 10_093, 10_099, 10_103]
    var probe: [String: Int] = [:]
    for (index, symbol) in expressions.symbols.sorted().enumerated() {
      probe[symbol] = primes[index % primes.count] + 100_000 * (index / primes.count)
    }
    self.probe = probe
    self.symbols = exported.program.lengths.merging(symbols) { $1 }
  }

  /// As the file has it; nil for what it does not describe.
  mutating func original(_ name: String) throws(Failure) -> TensorLayout? {
    if let known = old[name] { return known }
    guard let element = exported.tensorValues[name] else { return nil }
    let layout = try TensorLayout(element, expressions)
    old[name] = layout
    return layout
  }

  mutating func current(_ name: String) throws(Failure) -> TensorLayout? {
    if let new = changed[name] { return new }
    return try original(name)
  }

  mutating func set(_ name: String, _ layout: TensorLayout) throws(Failure) {
    if try original(name) != layout { changed[name] = layout }
  }

  func integer(_ argument: TorchArgument) throws(Failure) -> SizeExpression? {
    switch argument {
    case .int(let value): return .number(value)
    case .reference(let name):
      if let new = changedIntegers[name] { return new }
      return try integers[name].map { element throws(Failure) in try expressions.expression(element).canonical }
    default: return nil
    }
  }

  mutating func setInteger(_ name: String, _ expression: SizeExpression) { changedIntegers[name] = expression }

  // MARK: Calls

  /// Follows the changes through a call.
  /// - Parameters:
  ///   - before: as the file has it.
  ///   - results: the names it binds.
  ///   - lengths: new lengths by axis, by name.
  mutating func follow(
    _ call: EditedCall, before: EditedCall, results: [String], lengths: [String: [Int: Int]]
  ) throws(Failure) {
    if let name = results.first, results.count == 1, let element = integers[name] {
      let new = try computedInteger(call)
      if let new, try new.canonical != expressions.expression(element).canonical { changedIntegers[name] = new }
      return
    }
    var olds: [TensorLayout] = []
    for name in results { if let layout = try original(name) { olds.append(layout) } }
    guard olds.count == results.count, !olds.isEmpty else { return }
    var sizes = zip(results, olds).map { name, old in
      old.sizes.enumerated().map { axis, size in lengths[name]?[axis].map { size.resized(to: $0, symbols) } ?? size }
    }
    try takeComputedSizes(call, &sizes[0])
    let viewed = Self.firstValue(before, inputs)
    let isChanged = viewed.map { changed[$0] != nil } ?? false
    guard isChanged || zip(sizes, olds).contains(where: { $0 != $1.sizes }) else { return }
    let news = try viewLayouts(call, before: before, viewed, olds, sizes)
    for (index, name) in results.enumerated() {
      let dense = TensorLayout.dense(sizes[index], orderedAs: olds[index], probe)
      try set(name, news?[index] ?? (sizes[index] == olds[index].sizes ? olds[index] : dense))
    }
  }

  /// A reshaping that is given an integer which calls compute says best what its size has become.
  private func takeComputedSizes(_ call: EditedCall, _ sizes: inout [SizeExpression]) throws(Failure) {
    guard ["view", "reshape", "_unsafe_view"].contains(call.function),
      case .list(let given)? = call.argument("size", 1) ?? call.argument("shape", 1), given.count == sizes.count
    else { return }
    for (axis, argument) in given.enumerated() {
      if case .reference(let name) = argument, changedIntegers[name] != nil, let size = try integer(argument) {
        sizes[axis] = size
      }
    }
  }

  /// The layouts of views of the first argument; nil where the file's own show that the call does not make such.
  private mutating func viewLayouts(
    _ call: EditedCall, before: EditedCall, _ viewed: String?, _ olds: [TensorLayout], _ sizes: [[SizeExpression]]
  ) throws(Failure) -> [TensorLayout]? {
    guard let viewed, let oldInput = try original(viewed), let newInput = try current(viewed) else { return nil }
    let expected = ViewLayouts(call: before, probe: probe).layouts(oldInput, sizes: olds.map(\.sizes))
    guard let expected, zip(expected, olds).allSatisfy({ isSame($0, $1) }) else { return nil }
    guard var new = ViewLayouts(call: call, probe: probe).layouts(newInput, sizes: sizes),
      zip(new, sizes).allSatisfy({ $0.sizes == $1 })
    else { return nil }
    // An axis of one index may have any stride; the export may have given it that of such an axis of the input.
    for (index, old) in olds.enumerated() {
      for axis in old.sizes.indices where old.strides[axis] != expected[index].strides[axis] {
        let source = oldInput.sizes.indices.first {
          oldInput.sizes[$0] == .number(1) && oldInput.strides[$0] == old.strides[axis]
        }
        if let source { new[index].strides[axis] = newInput.strides[source] }
      }
    }
    return new
  }

  /// Strides of axes of one index count as equal.
  private func isSame(_ a: TensorLayout, _ b: TensorLayout) -> Bool {
    guard a.sizes == b.sizes, a.offset.value(probe) == b.offset.value(probe) else { return false }
    return a.sizes.indices.allSatisfy {
      a.sizes[$0] == .number(1) || a.strides[$0].value(probe) == b.strides[$0].value(probe)
    }
  }

  /// The graph's name of the tensor that a call is given first.
  private static func firstValue(_ call: EditedCall, _ inputs: [String: String]) -> String? {
    switch call.arguments.first?.value {
    case .reference(let name)?: name
    case .parameter(let name)?: inputs[name]
    default: nil
    }
  }

  /// What a call of Python's arithmetic, or of a tensor's size, comes to.
  private mutating func computedInteger(_ call: EditedCall) throws(Failure) -> SizeExpression? {
    if call.function == "sym_size" {
      guard case .reference(let name)? = call.argument("self", 0), case .int(let axis)? = call.argument("dim", 1),
        let layout = try current(name)
      else { return nil }
      let index = axis < 0 ? axis + layout.rank : axis
      return layout.sizes.indices.contains(index) ? layout.sizes[index] : nil
    }
    guard let first = call.argument("a", 0), let second = call.argument("b", 1), let a = try integer(first),
      let b = try integer(second)
    else { return nil }
    switch call.function {
    case "mul": return a * b
    case "add": return SizeExpression.sum(a, b)
    case "sub": return SizeExpression.sum(a, b * .number(-1))
    case "floordiv":
      guard case .number(let divisor) = b, divisor > 0 else { return .call(.floorDivision, [a, b]) }
      return SizeExpression.floorDivision(a, by: divisor)
    default: return nil
    }
  }

  // MARK: Text

  /// Writes what has changed over the graph's tables.
  func write(to changes: inout JSONTextChanges, skipping skipped: Set<String>) throws(Failure) {
    let lengths = exported.program.lengths
    for (name, layout) in changed where !skipped.contains(name) {
      guard let element = exported.tensorValues[name], let old = old[name] else { continue }
      layout.write(over: element, old: old, lengths, to: &changes)
    }
    for (name, expression) in changedIntegers {
      if let element = integers[name] { changes.replace(element, with: expression.json(lengths)) }
    }
  }
}
