/// Writes what a pickle described as a pickle again.
///
/// Invariant: reading what is written gives the same objects with the same identities. Objects that more than one other
/// refers to are put into the memo, all others are not: a pickle of one thing is the same bytes, whoever made it.
/// Protocol 2, as PyTorch writes; byte strings and sets, which that has no instructions for, take those of later
/// protocols, which every reader of Python 3 understands whatever the version says.
package struct PickleWriter {
  private enum Step {
    case write(PickleNode)
    case emit(PickleOpcode)
    case memoize(PickleNode)
  }

  /// Entries that are set at once, as in Python's writer.
  private static let batchCount = 1000

  private var bytes: [UInt8] = [PickleOpcode.proto.rawValue, 2]
  private let shared: PickleNodeSet
  private var slots = PickleNodeTable<Int>()
  private var slotCount = 0
  /// What is left to do, the next at the end.
  private var steps: [Step] = []

  package static func write(_ root: PickleNode) -> [UInt8] {
    var writer = PickleWriter(shared: sharedNodes(root))
    writer.run(root)
    return writer.bytes
  }

  private init(shared: PickleNodeSet) { self.shared = shared }

  /// The nodes that are referred to more than once and have an identity.
  private static func sharedNodes(_ root: PickleNode) -> PickleNodeSet {
    var seen = PickleNodeSet()
    var shared = PickleNodeSet()
    var stack = [root]
    while let node = stack.popLast() {
      if seen.insert(node) {
        node.forEachChild { if $0.hasIdentity { stack.append($0) } }
      } else {
        _ = shared.insert(node)
      }
    }
    return shared
  }

  private mutating func run(_ root: PickleNode) {
    steps = [.write(root)]
    while let step = steps.popLast() {
      switch step {
      case .emit(let opcode): emit(opcode)
      case .memoize(let node): memoize(node)
      case .write(let node):
        if let slot = slots[node] { emit(slot, .binGet, .longBinGet) } else { write(node) }
      }
    }
    emit(.stop)
  }

  private mutating func write(_ node: PickleNode) {
    switch node.kind {
    case .none: emit(.none)
    case .bool(let value): emit(value ? .newTrue : .newFalse)
    case .int(let value): write(value)
    case .bigInteger(let value): writeLong(value)
    case .float(let value):
      emit(.binFloat)
      bytes.append(littleEndian: value.bitPattern.byteSwapped)
    case .string(let text):
      emit(.binUnicode)
      bytes.append(littleEndian: UInt32(text.utf8.count))
      bytes += text.utf8
      memoize(node)
    case .bytes(let contents):
      emit(.binBytes)
      bytes.append(littleEndian: UInt32(contents.count))
      bytes += contents
      memoize(node)
    case .global(let module, let name):
      emit(.global)
      bytes += Array("\(module)\n\(name)\n".utf8)
      memoize(node)
    case .list(let elements):
      emit(.emptyList)
      memoize(node)
      pushBatches(of: elements.count, one: .append, many: .appends) { $0.append(.write(elements[$1])) }
    case .set(let members):
      emit(.emptySet)
      memoize(node)
      pushBatches(of: members.count, one: nil, many: .addItems) { $0.append(.write(members[$1])) }
    case .dict(let entries):
      emit(.emptyDict)
      memoize(node)
      push(entries)
    case .tuple(let elements):
      steps.append(.memoize(node))
      pushTuple(elements)
    case .persistent(let id):
      steps += [.memoize(node), .emit(.binPersistentID), .write(id)]
    case .call(let call):
      if let state = call.state { steps += [.emit(.build), .write(state)] }
      push(call.items)
      steps += [
        .memoize(node), .emit(call.kind == .reduce ? .reduce : .newObject), .write(call.arguments), .write(call.callee),
      ]
    }
  }

  // What is to be done first is put on the steps last.

  private mutating func pushTuple(_ elements: [PickleNode]) {
    let opcodes: [PickleOpcode] = [.emptyTuple, .tuple1, .tuple2, .tuple3]
    steps.append(.emit(elements.count < opcodes.count ? opcodes[elements.count] : .tuple))
    for element in elements.reversed() { steps.append(.write(element)) }
    if elements.count >= opcodes.count { steps.append(.emit(.mark)) }
  }

  private mutating func push(_ entries: [PickleNode.Entry]) {
    pushBatches(of: entries.count, one: .setItem, many: .setItems) {
      $0.append(.write(entries[$1].value))
      $0.append(.write(entries[$1].key))
    }
  }

  /// - Parameters:
  ///   - one: what adds a single entry without a mark, if there is such an instruction.
  ///   - push: puts what writes an entry on the steps.
  private mutating func pushBatches(
    of count: Int, one: PickleOpcode?, many: PickleOpcode, _ push: (inout [Step], Int) -> Void
  ) {
    for start in stride(from: 0, to: count, by: Self.batchCount).reversed() {
      let end = min(start + Self.batchCount, count)
      if end - start == 1, let one {
        steps.append(.emit(one))
        push(&steps, start)
      } else {
        steps.append(.emit(many))
        for index in (start..<end).reversed() { push(&steps, index) }
        steps.append(.emit(.mark))
      }
    }
  }

  // MARK: Bytes

  private mutating func emit(_ opcode: PickleOpcode) { bytes.append(opcode.rawValue) }

  /// An instruction with a memo slot.
  private mutating func emit(_ slot: Int, _ short: PickleOpcode, _ long: PickleOpcode) {
    if let small = UInt8(exactly: slot) {
      emit(short)
      bytes.append(small)
    } else {
      emit(long)
      bytes.append(littleEndian: UInt32(slot))
    }
  }

  private mutating func memoize(_ node: PickleNode) {
    guard shared.contains(node) else { return }
    slots[node] = slotCount
    emit(slotCount, .binPut, .longBinPut)
    slotCount += 1
  }

  private mutating func write(_ value: Int) {
    if let small = UInt8(exactly: value) {
      emit(.binInt1)
      bytes.append(small)
    } else if let medium = UInt16(exactly: value) {
      emit(.binInt2)
      bytes.append(littleEndian: medium)
    } else if let large = Int32(exactly: value) {
      emit(.binInt)
      bytes.append(littleEndian: large)
    } else {
      var digits: [UInt8] = []
      digits.append(littleEndian: value)
      // The fewest bytes whose last bit is the sign.
      let bits = 65 - (value < 0 ? ~value : value).leadingZeroBitCount
      writeLong(Array(digits.prefix((bits + 7) / 8)))
    }
  }

  /// - Precondition: at most 255 bytes, as the instruction that was read had.
  private mutating func writeLong(_ digits: [UInt8]) {
    emit(.long1)
    bytes.append(UInt8(digits.count))
    bytes += digits
  }
}

extension PickleNode {
  /// Whether it matters if two objects are one. Numbers and what there is one of in Python are what they are.
  fileprivate var hasIdentity: Bool {
    switch kind {
    case .none, .bool, .int, .bigInteger, .float: false
    case .tuple(let elements): !elements.isEmpty
    case .string, .bytes, .list, .dict, .set, .global, .call, .persistent: true
    }
  }
}
