/// Shapes of what If, Loop and Scan compute: those that the graphs inside them find, where these hold however often a
/// body runs and whichever branch is taken. A body whose shapes contradict each other may be one that never runs: it
/// says nothing.
///
/// Invariant: what all bodies of a graph cost together, those in bodies that are looked at more than once counted each
/// time, is bounded.
struct ControlFlowShapes {
  /// What is known of a value around a body.
  struct Known {
    var shape: [Int]?
    var contents: ElementArray?
    var dtype: DType?
  }

  /// Nodes that may be looked at in bodies.
  static let budget = 1 << 19

  static func takes(_ node: Node) -> Bool { node.domain.isEmpty && ["If", "Loop", "Scan"].contains(node.op) }

  private let call: OperatorCall
  private let around: (String) -> Known?
  private var budget: Int

  /// - Parameters:
  ///   - around: what is known of a value that bodies read by name.
  ///   - budget: of nodes, what is left of it.
  static func infer(
    _ call: OperatorCall, budget: inout Int, around: @escaping (String) -> Known?
  ) -> [[Int]?] {
    var shapes = ControlFlowShapes(call: call, around: around, budget: budget)
    defer { budget = shapes.budget }
    switch call.node.op {
    case "If": return shapes.branches()
    case "Loop": return shapes.loop()
    case "Scan" where call.node.opset >= 9: return shapes.scan()
    default: return []
    }
  }

  private init(call: OperatorCall, around: @escaping (String) -> Known?, budget: Int) {
    (self.call, self.around, self.budget) = (call, around, budget)
  }

  private var node: Node { call.node }

  private mutating func branches() -> [[Int]?] {
    // Where shapes decide which is taken, as of repetitions that exporters write out, the other says nothing.
    if let condition = call.integers(0), condition.count == 1 {
      return run(condition == [0] ? "else_branch" : "then_branch", [])?.map(\.shape) ?? []
    }
    guard let then = run("then_branch", []), let otherwise = run("else_branch", []),
      then.count == otherwise.count
    else { return [] }
    return zip(then, otherwise).map { $0.shape == $1.shape ? $0.shape : nil }
  }

  private mutating func loop() -> [[Int]?] {
    guard let body = node.body("body"), node.inputs.count >= 2 else { return [] }
    // The body goes on for as long as it says so itself, unless it never says otherwise.
    let goesOn = !call.isPresent(1) || call.integers(1) == [1]
    let truth = goesOn ? ElementArray([Int64(1)], shape: []) : nil
    let control = body.ownInputs.prefix(2).enumerated().map { k, input in
      // Counters are scalars, or vectors of one element where the body says so.
      Known(
        shape: body.graph[input].declaredShape?.count == 1 ? [1] : [], contents: k == 1 ? truth : nil,
        dtype: k == 1 ? .bool : .int64)
    }
    guard control.count == 2,
      let (states, results) = repeated("body", control, states: Array(call.shapes.dropFirst(2)), statesAt: 1)
    else { return [] }
    let isEndless = results[0].contents?.integers == [1]
    let trips = isEndless ? call.integers(0)?.first : nil
    let collected: [[Int]?] = results.dropFirst(1 + states.count).map { result in
      guard let trips, trips >= 0, let shape = result.shape else { return nil }
      return [trips] + shape
    }
    return states + collected
  }

  private mutating func scan() -> [[Int]?] {
    let scanned = node.int("num_scan_inputs", default: 0)
    let stateCount = node.inputs.count - scanned
    guard scanned > 0, stateCount >= 0 else { return [] }
    let inputAxes = node.ints("scan_input_axes") ?? [Int](repeating: 0, count: scanned)
    guard inputAxes.count == scanned else { return [] }
    var slices: [Known] = []
    var length: Int?
    for (k, stated) in inputAxes.enumerated() {
      guard var shape = call.shape(stateCount + k) else {
        slices.append(Known())
        continue
      }
      guard let axis = try? call.axis(stated, rank: shape.count) else { return [] }
      length = shape.remove(at: axis)
      slices.append(Known(shape: shape))
    }
    guard
      let (states, results) = repeated("body", slices, states: Array(call.shapes.prefix(stateCount)), statesAt: 0)
    else { return [] }
    let outputAxes = node.ints("scan_output_axes") ?? []
    let collected: [[Int]?] = results.dropFirst(states.count).enumerated().map { k, result in
      guard let length, var shape = result.shape,
        let axis = try? call.axis(k < outputAxes.count ? outputAxes[k] : 0, rank: shape.count + 1)
      else { return nil }
      shape.insert(length, at: axis)
      return shape
    }
    return states + collected
  }

  // MARK: Bodies

  /// A body that hands states on to its next run. States keep the shapes they come in with, or have none.
  /// - Parameters:
  ///   - own: what it is given besides, before the states if `statesAt` is not 0.
  ///   - statesAt: where among its results the states are.
  private mutating func repeated(
    _ attribute: String, _ own: [Known], states: [[Int]?], statesAt: Int
  ) -> (states: [[Int]?], results: [Known])? {
    var states = states
    for _ in 0..<2 {
      let given = states.map { Known(shape: $0) }
      guard let results = run(attribute, statesAt > 0 ? own + given : given + own),
        results.count >= statesAt + states.count
      else { return nil }
      let after = results[statesAt..<statesAt + states.count].map(\.shape)
      let stable = zip(states, after).map { $0 == $1 ? $0 : nil }
      if stable == states { return (states, results) }
      states = stable
    }
    return nil
  }

  /// What a body computes of its own inputs; nil if it does not fit them.
  private mutating func run(_ attribute: String, _ own: [Known]) -> [Known]? {
    guard let body = node.body(attribute), own.count == body.ownInputCount, budget >= body.graph.nodes.count
    else { return nil }
    budget -= body.graph.nodes.count
    var given: [ValueID: Known] = [:]
    for (input, known) in zip(body.ownInputs, own) { given[input] = known }
    for input in body.captured { given[input] = around(body.graph[input].name) }
    guard let found = try? body.graph.inferShapes(given: given, symbols: [:], budget: &budget) else { return nil }
    return body.graph.outputs.map { Known(shape: found[$0], contents: found.contents(of: $0)) }
  }
}
