/// What is known behind If, Loop and Scan: what holds however often a body runs and whichever branch is taken.
import ModelGraph
import TestSupport
import Testing

@Suite struct ControlFlowShapeTests {
  /// A body of the inputs `own`, reading "x" from around it.
  private static func body(
    _ own: [(String, DType)] = [], _ make: (GraphBuilder, _ own: [ValueID], _ x: ValueID) -> [ValueID]
  ) -> Attribute {
    let g = GraphBuilder()
    let inputs = own.map { g.input($0.0, nil, dtype: $0.1) }
    let x = g.input("x", nil)
    for id in make(g, inputs, x) { g.output(id) }
    return .graph(TensorBytes(copying: [UInt8]()), GraphBody(graph: g.build(), ownInputCount: own.count))
  }

  private func shapes(
    _ op: String, _ attributes: [String: Attribute], outputs: Int = 1, x shape: [Int] = [2, 3, 8],
    inputs make: (GraphBuilder, ValueID) -> [ValueID?]
  ) throws -> [[Int]?] {
    let g = GraphBuilder()
    let x = g.input("x", nil)
    let found = g.node(op, make(g, x), attributes, outputs: outputs, captures: [x])
    let table = try g.build().inferShapes(inputShapes: [x: shape], symbols: [:])
    return found.map { table[$0] }
  }

  @Test func branchesThatAgreeSayWhatTheyMake() throws {
    let same = Self.body { g, _, x in [g("Relu", x), g("Transpose", x, with: ["perm": [0, 2, 1]])] }
    let other = Self.body { g, _, x in [g("Neg", x), g("Identity", x)] }
    let condition = { (g: GraphBuilder, _: ValueID) -> [ValueID?] in [g.input("c", [], dtype: .bool)] }
    #expect(
      try shapes("If", ["then_branch": same, "else_branch": other], outputs: 2, inputs: condition)
        == [[2, 3, 8], nil])
    #expect(
      try shapes("If", ["then_branch": same, "else_branch": other], outputs: 2, x: [2, 3, 3], inputs: condition)
        == [[2, 3, 3], [2, 3, 3]])
  }

  @Test func branchesReadLengthsFromAround() throws {
    let branch = Self.body { g, _, x in
      let rows = g("Shape", x, with: ["end": 1])
      return [g("Reshape", x, g("Concat", rows, g.ints([-1]), with: ["axis": 0]))]
    }
    #expect(
      try shapes("If", ["then_branch": branch, "else_branch": branch]) { g, _ in [g.input("c", [], dtype: .bool)] }
        == [[2, 24]])
  }

  @Test(
    "Where shapes decide, the branch that is taken tells",
    arguments: [(4, [2, 3, 8]), (3, [2, 8, 3])] as [(Int64, [Int])])
  func theBranchThatIsTakenTells(limit: Int64, shape: [Int]) throws {
    let same = Self.body { g, _, x in [g("Relu", x)] }
    let other = Self.body { g, _, x in [g("Transpose", x, with: ["perm": [0, 2, 1]])] }
    #expect(
      try shapes("If", ["then_branch": same, "else_branch": other]) { g, x in
        [g("Less", g("Shape", x, with: ["start": 1, "end": 2]), g.ints([limit]))]
      } == [shape])
  }

  @Test func branchesThatCannotBeSayNothing() throws {
    let good = Self.body { g, _, x in [g("Relu", x)] }
    let bad = Self.body { g, _, x in [g("Add", x, g.weight([5]))] }
    for branches in [["then_branch": good, "else_branch": bad], ["then_branch": good]] {
      #expect(try shapes("If", branches) { g, _ in [g.input("c", [], dtype: .bool)] } == [nil])
    }
  }

  private static let control: [(String, DType)] = [("i", .int64), ("go", .bool)]

  @Test func loopsKeepStatesThatKeepTheirShape() throws {
    // Of two states the second grows; what depends on it has no shape either.
    let body = Self.body(Self.control + [("v", .float32), ("w", .float32)]) { g, own, x in
      [
        g("Identity", own[1]), g("Add", own[2], x), g("Concat", own[3], own[3], with: ["axis": 0]), g("Relu", own[2]),
        g("Neg", own[3]),
      ]
    }
    func loop(_ g: GraphBuilder, _ x: ValueID, trips: ValueID, go: ValueID?) -> [ValueID?] { [trips, go, x, x] }
    // As often as it is told to, if it never stops by itself.
    #expect(
      try shapes("Loop", ["body": body], outputs: 4) { g, x in loop(g, x, trips: g.ints([5], shape: []), go: nil) }
        == [[2, 3, 8], nil, [5, 2, 3, 8], nil])
    #expect(
      try shapes("Loop", ["body": body], outputs: 4) { g, x in
        loop(g, x, trips: g.ints([5], shape: []), go: g.input("c", [], dtype: .bool))
      } == [[2, 3, 8], nil, nil, nil])
    #expect(
      try shapes("Loop", ["body": body], outputs: 4) { g, x in
        loop(g, x, trips: g.input("n", [], dtype: .int64), go: nil)
      } == [[2, 3, 8], nil, nil, nil])
    let stops = Self.body(Self.control + [("v", .float32)]) { g, own, _ in
      [g("Less", own[0], g.ints([3], shape: [])), g("Neg", own[2]), g("Relu", own[2])]
    }
    #expect(
      try shapes("Loop", ["body": stops], outputs: 2) { g, x in [g.ints([5], shape: []), nil, x] }
        == [[2, 3, 8], nil])
  }

  @Test func scansGoAlongAnAxis() throws {
    let body = Self.body([("s", .float32), ("e", .float32)]) { g, own, _ in
      let sum = g("Add", own[0], own[1])
      return [sum, g("Unsqueeze", sum, g.ints([0]))]
    }
    let inputs = { (g: GraphBuilder, x: ValueID) -> [ValueID?] in [g.weight([2, 8]), x] }
    #expect(
      try shapes("Scan", ["body": body, "num_scan_inputs": 1, "scan_input_axes": [-2]], outputs: 2, inputs: inputs)
        == [[2, 8], [3, 1, 2, 8]])
    #expect(
      try shapes(
        "Scan", ["body": body, "num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [-1]], outputs: 2,
        inputs: inputs) == [[2, 8], [1, 2, 8, 3]])
    // A state that does not fit what is added to it.
    #expect(
      try shapes("Scan", ["body": body, "num_scan_inputs": 1], outputs: 2, inputs: inputs) == [nil, nil])
  }

  @Test func resultsHaveTheTypesThatBodiesGiveThem() throws {
    let g = GraphBuilder()
    let x = g.input("x", nil)
    let condition = g.input("c", [], dtype: .bool)
    let branch = Self.body { g, _, x in [g("Relu", x), g("Shape", x)] }
    let chosen = g.node(
      "If", [condition], ["then_branch": branch, "else_branch": branch], outputs: 2, captures: [x])
    let body = Self.body(Self.control + [("v", .float32)]) { g, own, _ in
      [own[1], g("Neg", own[2]), g("Equal", own[0], own[0])]
    }
    let looped = g.node("Loop", [g.ints([3], shape: []), nil, chosen[0]], ["body": body], outputs: 2, captures: [x])
    let scan = Self.body([("s", .float32), ("e", .float32)]) { g, own, _ in [own[0], g("Neg", own[1])] }
    let scanned = g.node(
      "Scan", [looped[0], x], ["body": scan, "num_scan_inputs": 1], outputs: 2, captures: [x])
    let graph = g.build()
    #expect(
      (chosen + looped + scanned).map { graph.elementType(of: $0) }
        == [.float32, .int64, .float32, .bool, .float32, .float32])
  }

  @Test func loopsWithinLoopsEnd() throws {
    var body = Self.body(Self.control + [("v", .float32)]) { g, own, _ in
      [own[1], g("Concat", own[2], own[2], with: ["axis": 0])]
    }
    for _ in 0..<40 {
      let inner = body
      body = Self.body(Self.control + [("v", .float32)]) { g, own, x in
        [own[1], g.node("Loop", [g.ints([3], shape: []), nil, own[2]], ["body": inner], captures: [x])[0]]
      }
    }
    #expect(try shapes("Loop", ["body": body]) { g, x in [g.ints([3], shape: []), nil, x] } == [nil])
  }
}
