/// The choice of concrete lengths for open axes: nominal and analysis, what the caller gives, and what is refused.
import ModelGraph
import TestSupport
import Testing

@Suite struct InputLengthsTests {
  /// Throws a failure of `kind` whose message contains all of `words`.
  private func expect(
    _ kind: Failure.Kind, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation,
    from body: () throws -> GraphShapes
  ) {
    #expect(sourceLocation: sourceLocation) {
      _ = try body()
    } throws: { error in
      guard let failure = error as? Failure else { return false }
      return failure.kind == kind && words.allSatisfy { failure.message.contains($0) }
    }
  }

  @Test func staticGraphsHaveOneTable() throws {
    let g = GraphBuilder()
    let x = g.input("x", [2, 3])
    let y = g("Relu", x)
    let shapes = try g.build().inferShapes()
    #expect(shapes.isStatic)
    #expect(shapes.nominal[y] == [2, 3])
    #expect(shapes.analysis[y] == [2, 3])
  }

  @Test func symbolsGetPrimesAndUsualLengths() throws {
    let g = GraphBuilder()
    // 2018 = 2 * 1009 and 1013 keep the first primes above 1000 out.
    let x = g.input("x", ["N", 3, "H", "W"])
    let w = g.weight([2018, 3, 1, 1])
    let y = g("Conv", x, w)
    _ = g.ints([1013])
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[y] == [1, 2018, 224, 224])
    #expect(shapes.analysis[y] == [1019, 2018, 1021, 1031])
    #expect(shapes.analysisLengths.symbols == ["N": 1019, "H": 1021, "W": 1031])
  }

  @Test func oneSymbolIsOneLength() throws {
    let g = GraphBuilder()
    let a = g.input("a", ["N", "T"])
    let b = g.input("b", ["N", "T"])
    let sum = g("Add", a, b)
    let shapes = try g.build().inferShapes(given: ["b": [5, 9]])
    #expect(shapes.nominal[sum] == [5, 9])
    #expect(shapes.nominalLengths.symbols == ["N": 5, "T": 9])
    #expect(shapes.analysis[sum]?[0] != 5)
    expect(.inputShapeMismatch, "'T'", "9", "8") {
      try g.build().inferShapes(given: ["a": [5, 9], "b": [5, 8]])
    }
  }

  @Test func unnamedAxesAreSeparateUnlessTheyMeet() throws {
    let apart = GraphBuilder()
    let a = apart.input("a", [nil, 4])
    let b = apart.input("b", [nil, 4])
    let product = apart("MatMul", a, apart("Transpose", b))
    let separate = try apart.build().inferShapes().analysis
    #expect(separate[product]?[0] != separate[product]?[1])

    let meeting = GraphBuilder()
    let sum = meeting("Add", meeting.input("a", [nil, 4]), meeting.input("b", [nil, 4]))
    let shapes = try meeting.build().inferShapes()
    #expect(shapes.analysis[sum] == [1009, 4])
    #expect(shapes.nominal[sum] == [1, 4])
  }

  @Test func expressionsFollowTheirSymbols() throws {
    let g = GraphBuilder()
    let past = g.input("past", ["N", "past_length", 8])
    let now = g.input("now", ["N", "length", 8])
    let mask = g.input("mask", ["N", "past_length + length", 1])
    let y = g("Mul", g("Concat", past, now, with: ["axis": 1]), mask)
    let shapes = try g.build().inferShapes(given: ["past": [2, 10, 8], "now": [2, 1, 8]])
    #expect(shapes.nominal[y] == [2, 11, 8])
    #expect(shapes.analysis[y] == [1009, 1013 + 1019, 8])
    expect(.inputShapeMismatch, "'mask'", "[2, 12, 1]", "[2, 11, 1]") {
      try g.build().inferShapes(given: ["past": [2, 10, 8], "now": [2, 1, 8], "mask": [2, 12, 1]])
    }
  }

  @Test(arguments: ["input-dim-0", "a b", "(", "2*", "-1", "s0*", "1.5*s0", "a//0", "unk__12"])
  func oddNamesArePlainNames(_ name: String) throws {
    let g = GraphBuilder()
    let y = g("Relu", g.input("x", [.symbol(name), 4]))
    #expect(try g.build().inferShapes().analysis[y] == [1009, 4])
  }

  /// Two halvings, two doublings and a skip connection: lengths must be multiples of 4.
  @Test func halvingNetworksGetDivisibleLengths() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", 3, "H", "W"])
    func pooled(_ x: ValueID) -> ValueID { g("MaxPool", x, with: ["kernel_shape": [2, 2], "strides": [2, 2]]) }
    func doubled(_ x: ValueID) -> ValueID { g("Resize", x, nil, g.floats([1, 1, 2, 2])) }
    let y = g("Concat", x, doubled(doubled(pooled(pooled(x)))), with: ["axis": 1])
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[y] == [1, 6, 224, 224])
    #expect(shapes.analysis[y] == [1009, 6, 1013 * 32, 1019 * 32])
    expect(.inputShapeMismatch, "Concat", "[1, 3, 30, 32]", "input_shapes") {
      try g.build().inferShapes(given: ["x": [1, 3, 30, 32]])
    }
  }

  /// A table of 512 positions, sliced to the sequence's length.
  @Test func tablesOfPositionsGetShortLengths() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", "T", 16])
    let length = g("Gather", g("Shape", x), g.ints([1]))
    let positions = g("Slice", g.weight([1, 512, 16]), g.ints([0]), length, g.ints([1]))
    let y = g("Add", x, positions)
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[y] == [1, 128, 16])
    #expect(shapes.analysis[y] == [1009, 103, 16])
    #expect(shapes.nominal.contents(of: length)?.integers == [128])
    #expect(shapes.analysis.contents(of: length)?.integers == [103])
  }

  /// A declared symbol that the graph contradicts: a classifier that takes one size only.
  @Test func lengthsThatCannotVaryStayNominal() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", 3, "H", "W"])
    let y = g("Gemm", g("Flatten", x), g.weight([3 * 32 * 32, 10]))
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[y] == [1, 10])
    #expect(shapes.analysis[y] == [1009, 10])
    #expect(shapes.analysis[x] == [1009, 3, 32, 32])
    #expect(shapes.nominal[x] == [1, 3, 32, 32])
  }

  @Test func aBatchTheGraphFixesIsFound() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", 6])
    let y = g("Reshape", x, g.ints([8, 2, 3]))
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[y] == [8, 2, 3])
    #expect(shapes.nominal[x] == [8, 6])
    #expect(shapes.analysis[x] == [8, 6])
  }

  /// An exporter that traced a sequence of 7 and declared the axis open all the same.
  @Test func aLengthTheGraphMentionsIsFound() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", "T", 6])
    let y = g("Add", g("Reshape", x, g.ints([-1, 7, 2, 3])), g("Reshape", x, g.ints([0, 7, 2, 3])))
    #expect(try g.build().inferShapes().nominal[y] == [1, 7, 2, 3])
  }

  @Test func givenShapesMustFitTheDeclaration() throws {
    let g = GraphBuilder()
    _ = g("Relu", g.input("x", ["N", 3, 8, 8]))
    let graph = g.build()
    #expect(try graph.inferShapes(given: ["x": [7, 3, 8, 8]]).nominalLengths.symbols == ["N": 7])
    expect(.inputShapeMismatch, "[N, 3, 8, 8]", "[7, 4, 8, 8]") { try graph.inferShapes(given: ["x": [7, 4, 8, 8]]) }
    expect(.inputShapeMismatch, "[7, 3, 8]") { try graph.inferShapes(given: ["x": [7, 3, 8]]) }
    expect(.inputShapeMismatch, "[0, 3, 8, 8]") { try graph.inferShapes(given: ["x": [0, 3, 8, 8]]) }
    expect(.inputShapeMismatch, "does not fit") { try graph.inferShapes(given: ["x": [.max, 3, 8, 8]]) }
    expect(.inputShapeMismatch, "'y'", "'x'") { try graph.inferShapes(given: ["y": [1]]) }
  }

  @Test func lengthsOfZeroAndBelow() throws {
    let g = GraphBuilder()
    let y = g("Relu", g.input("x", [0, 4]))
    let z = g("Relu", g.input("w", [-1, 4]))
    let graph = g.build()
    #expect(try graph.inferShapes().nominal[y] == [0, 4])
    #expect(try graph.inferShapes().nominal[z] == [1, 4])
    let given = try graph.inferShapes(given: ["x": [7, 4], "w": [8, 4]])
    #expect(given.nominal[y] == [7, 4])
    #expect(given.nominal[z] == [8, 4])
  }

  @Test func inputsWithoutAShapeNeedOne() throws {
    let g = GraphBuilder()
    let x = g.input("x", nil)
    let unread = g.input("unread", nil)
    let y = g("Relu", x)
    let graph = g.build()
    expect(.inputShapeMismatch, "'x'", "input_shapes") { try graph.inferShapes() }
    let shapes = try graph.inferShapes(given: ["x": [2, 5]])
    #expect(shapes.nominal[y] == [2, 5])
    #expect(shapes.nominal[unread] == nil)
  }

  @Test func contradictionsAreReportedOnce() throws {
    let g = GraphBuilder()
    _ = g("Gemm", g.input("x", ["N", 5]), g.weight([4, 10]))
    expect(.modelMalformed, "Gemm", "[4, 10]") { try g.build().inferShapes() }
  }

  @Test func manyOpenLengthsAreRefused() throws {
    let g = GraphBuilder()
    for index in 0..<200 { _ = g("Relu", g.input("x\(index)", [nil, nil, nil])) }
    expect(.resourceLimit, "512") { try g.build().inferShapes() }
  }

  @Test func elementsMayDifferWhereShapesDoNot() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", 4])
    let lengths = g("Shape", x)
    let shapes = try g.build().inferShapes()
    #expect(shapes.nominal[lengths] == [2])
    #expect(shapes.analysis[lengths] == [2])
    let (nominal, analysis) = (shapes.nominal.contents(of: lengths), shapes.analysis.contents(of: lengths))
    #expect(nominal?.integers == [1, 4])
    #expect(analysis?.integers == [1009, 4])
  }
}
