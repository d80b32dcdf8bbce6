import Numerics
import TestSupport
import Testing

/// Gathers against the definition, one element at a time.
@Suite struct GatherTests {
  /// The source index of every element of the result, by the definition.
  private func reference(_ shape: [Int], _ axes: [Gather.Axis]) -> [Int] {
    var result: [Int] = []
    func visit(_ axis: Int, _ indices: [Int]) {
      guard axis < shape.count else {
        result.append(zip(indices, shape).reduce(0) { $0 * $1.1 + $1.0 })
        return
      }
      let kept: [Int]
      switch axes.first(where: { $0.axis == axis })?.kept {
      case nil: kept = Array(0..<shape[axis])
      case .indices(let list)?: kept = list
      case .perBlock(let blockAxis, let blocks)?:
        kept = blocks[indices[blockAxis] / (shape[blockAxis] / blocks.count)]
      }
      for index in kept { visit(axis + 1, indices + [index]) }
    }
    visit(0, [])
    return result
  }

  private func gathered<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ shape: [Int], _ axes: [Gather.Axis], rowsAtOnce: Int? = nil
  ) throws -> [T] {
    let source = (0..<shape.reduce(1, *)).map { T(truncatingIfNeeded: $0) }
    let gather = try Gather(shape: shape, elementBytes: MemoryLayout<T>.size, axes: axes)
    // A guard element behind the result must stay as it is.
    var target = [T](repeating: 0x55, count: gather.outputBytes / MemoryLayout<T>.size + 1)
    source.withUnsafeBytes { source in
      target.withUnsafeMutableBytes { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        let step = rowsAtOnce ?? max(1, gather.rowCount)
        for start in stride(from: 0, to: gather.rowCount, by: step) {
          gather.copyRows(
            start..<min(start + step, gather.rowCount), from: from, to: to + start * gather.rowBytes)
        }
      }
    }
    #expect(target.last == 0x55)
    return Array(target.dropLast())
  }

  private func runs(_ shape: [Int], _ elementBytes: Int, _ axes: [Gather.Axis]) throws -> [Int] {
    let gather = try Gather(shape: shape, elementBytes: elementBytes, axes: axes)
    var bytes: [Int] = []
    for row in 0..<gather.rowCount {
      gather.forEachRun(ofRow: row) { offset, count in bytes += offset..<(offset + count) }
    }
    return bytes
  }

  @Test func aWorkedExample() throws {
    // 2 x 4, columns 0, 2 and 3: 0 2 3 / 4 6 7.
    let axes = [Gather.Axis(axis: 1, kept: .indices([0, 2, 3]))]
    #expect(try gathered(UInt32.self, [2, 4], axes) == [0, 2, 3, 4, 6, 7])
    // Group convolution: rows 0, 1 keep column 1, rows 2, 3 column 0; row 1 goes.
    let grouped = [
      Gather.Axis(axis: 0, kept: .indices([0, 2, 3])),
      Gather.Axis(axis: 1, kept: .perBlock(blockAxis: 0, [[1], [0]])),
    ]
    #expect(try gathered(UInt32.self, [4, 2], grouped) == [1, 4, 6])
  }

  @Test func equalsTheDefinitionOnRandomTensors() throws {
    var random = SeededGenerator(seed: 1)
    for _ in 0..<1500 {
      let shape = (0..<Int.random(in: 1...4, using: &random)).map { _ in Int.random(in: 1...9, using: &random) }
      var axes: [Gather.Axis] = []
      for axis in shape.indices where Bool.random(using: &random) {
        let kept = (0..<shape[axis]).filter { _ in Int.random(in: 0..<3, using: &random) > 0 }
        axes.append(Gather.Axis(axis: axis, kept: .indices(kept)))
      }
      let expected = reference(shape, axes)
      let rows = Int.random(in: 1...5, using: &random)
      #expect(try gathered(UInt8.self, shape, axes) == expected.map { UInt8(truncatingIfNeeded: $0) })
      #expect(try gathered(UInt16.self, shape, axes, rowsAtOnce: rows) == expected.map { UInt16($0) })
      #expect(try gathered(UInt32.self, shape, axes, rowsAtOnce: rows) == expected.map { UInt32($0) })
      #expect(try gathered(UInt64.self, shape, axes) == expected.map { UInt64($0) })
      #expect(try runs(shape, 1, axes) == expected)
    }
  }

  @Test func widestElementsAndOddBlocksToo() throws {
    let axes = [Gather.Axis(axis: 1, kept: .indices([0, 3, 5]))]
    for width in [16, 12, 36] {
      let expected = reference([3, 7], axes).flatMap { ($0 * width)..<(($0 + 1) * width) }
      #expect(try runs([3, 7], width, axes) == expected)
      #expect(
        try gathered(UInt8.self, [3, 7, width], axes) == expected.map { UInt8(truncatingIfNeeded: $0) })
    }
    let wide = try Gather(shape: [3, 7], elementBytes: 16, axes: axes)
    let source = (0..<42).map(UInt64.init)
    var target = [UInt64](repeating: 0, count: 18)
    source.withUnsafeBytes { source in
      target.withUnsafeMutableBytes { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        wide.copyRows(0..<3, from: from, to: to)
      }
    }
    #expect(target == reference([3, 7], axes).flatMap { [UInt64(2 * $0), UInt64(2 * $0 + 1)] })
  }

  @Test func blocksOfEveryEarlierAxis() throws {
    var random = SeededGenerator(seed: 2)
    for _ in 0..<500 {
      let groups = Int.random(in: 1...4, using: &random)
      let perGroup = Int.random(in: 1...3, using: &random)
      let width = Int.random(in: 1...6, using: &random)
      let count = Int.random(in: 1...width, using: &random)
      let extra = Int.random(in: 1...3, using: &random)
      let rows = (0..<groups).map { group in
        (0..<perGroup).filter { _ in Int.random(in: 0..<4, using: &random) > 0 }.map { group * perGroup + $0 }
      }
      let blocks = rows.map { $0.isEmpty ? [] : Array((0..<width).shuffled(using: &random).prefix(count).sorted()) }
      guard rows.contains(where: { !$0.isEmpty }) else { continue }
      // With an axis before, between and behind.
      let shape = [extra, groups * perGroup, extra, width, extra]
      let axes = [
        Gather.Axis(axis: 1, kept: .indices(rows.flatMap { $0 })),
        Gather.Axis(axis: 3, kept: .perBlock(blockAxis: 1, blocks)),
      ]
      let expected = reference(shape, axes)
      #expect(try gathered(UInt32.self, shape, axes) == expected.map { UInt32($0) })
      let behind = axes + [Gather.Axis(axis: 4, kept: .indices([extra - 1]))]
      #expect(try gathered(UInt16.self, shape, behind, rowsAtOnce: 2) == reference(shape, behind).map { UInt16($0) })
    }
  }

  @Test func nothingAllAndNoAxes() throws {
    #expect(try gathered(UInt32.self, [4, 3], [Gather.Axis(axis: 0, kept: .indices([]))]) == [])
    #expect(try gathered(UInt32.self, [2, 2], [Gather.Axis(axis: 1, kept: .indices([0, 1]))]) == [0, 1, 2, 3])
    #expect(try gathered(UInt32.self, [2, 2], []) == [0, 1, 2, 3])
    #expect(try gathered(UInt32.self, [], []) == [0])
    #expect(try gathered(UInt32.self, [0, 3], [Gather.Axis(axis: 1, kept: .indices([1]))]) == [])
  }

  @Test func refusesWhatDoesNotFit() {
    func misfit(_ shape: [Int], _ axes: [Gather.Axis]) -> Bool {
      do throws(Gather.Misfit) {
        _ = try Gather(shape: shape, elementBytes: 4, axes: axes)
        return false
      } catch {
        return !error.reason.isEmpty
      }
    }
    func indices(_ axis: Int, _ list: [Int]) -> Gather.Axis { Gather.Axis(axis: axis, kept: .indices(list)) }
    func blocks(_ axis: Int, _ list: [[Int]]) -> Gather.Axis {
      Gather.Axis(axis: 1, kept: .perBlock(blockAxis: axis, list))
    }
    #expect(misfit([4], [indices(1, [0])]))
    #expect(misfit([4], [indices(-1, [0])]))
    #expect(misfit([4], [indices(0, [4])]))
    #expect(misfit([4], [indices(0, [-1])]))
    #expect(misfit([4], [indices(0, [1, 1])]))
    #expect(misfit([4], [indices(0, [2, 1])]))
    #expect(misfit([4, 4], [indices(1, [0]), indices(0, [0])]))
    #expect(misfit([4, 4], [indices(0, [0]), indices(0, [1])]))
    #expect(misfit([4, 4], [blocks(0, [[0], [0], [0]])]))
    #expect(misfit([4, 4], [blocks(1, [[0], [0]])]))
    #expect(misfit([4, 4], [blocks(0, [])]))
    #expect(misfit([4, 4], [blocks(0, [[0], [0, 1]])]))
    #expect(misfit([4, 4], [blocks(0, [[0], []])]))
    #expect(misfit([4, 4], [indices(0, [0, 2]), blocks(0, [[0], []])]))
    #expect(!misfit([4, 4], [indices(0, [0, 1]), blocks(0, [[0], []])]))
  }
}
