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
  private var shared: Set<ObjectIdentifier>
  private var slots: [ObjectIdentifier: Int] = [:]
  /// What is left to do, the next at the end.
  private var steps: [Step] = []

  package static func write(_ root: PickleNode) -> [UInt8] {
    var writer = PickleWriter(shared: sharedNodes(root))
    writer.run(root)
    return writer.bytes
  }

  private init(shared: Set<ObjectIdentifier>) { self.shared = shared }

  /// The nodes that are referred to more than once and have an identity.
  private static func sharedNodes(_ root: PickleNode) -> Set<ObjectIdentifier> {
    var seen: Set<ObjectIdentifier> = []
    var shared: Set<ObjectIdentifier> = []
    var stack = [root]
    while let node = stack.popLast() {
      if seen.insert(node.id).inserted {
        node.forEachChild { stack.append($0) }
      } else if node.hasIdentity {
        shared.insert(node.id)
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
        if let slot = slots[node.id] { emit(slot, .binGet, .longBinGet) } else { write(node) }
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
      push(batches(elements.map { [$0] }, one: .append, many: .appends))
    case .set(let members):
      emit(.emptySet)
      memoize(node)
      push(batches(members.map { [$0] }, one: nil, many: .addItems))
    case .dict(let entries):
      emit(.emptyDict)
      memoize(node)
      push(batches(entries.map { [$0.key, $0.value] }, one: .setItem, many: .setItems))
    case .tuple(let elements): push(steps(forTuple: elements) + [.memoize(node)])
    case .persistent(let id): push([.write(id), .emit(.binPersistentID), .memoize(node)])
    case .call(let call):
      push(
        [.write(call.callee), .write(call.arguments), .emit(call.kind == .reduce ? .reduce : .newObject)]
          + [.memoize(node)]
          + batches(call.items.map { [$0.key, $0.value] }, one: .setItem, many: .setItems)
          + (call.state.map { [.write($0), .emit(.build)] } ?? []))
    }
  }

  private func steps(forTuple elements: [PickleNode]) -> [Step] {
    let elementSteps = elements.map { Step.write($0) }
    switch elements.count {
    case 0: return [.emit(.emptyTuple)]
    case 1: return elementSteps + [.emit(.tuple1)]
    case 2: return elementSteps + [.emit(.tuple2)]
    case 3: return elementSteps + [.emit(.tuple3)]
    default: return [.emit(.mark)] + elementSteps + [.emit(.tuple)]
    }
  }

  /// - Parameters:
  ///   - entries: the nodes of each.
  ///   - one: what adds a single entry without a mark, if there is such an instruction.
  private func batches(_ entries: [[PickleNode]], one: PickleOpcode?, many: PickleOpcode) -> [Step] {
    var result: [Step] = []
    for start in stride(from: 0, to: entries.count, by: Self.batchCount) {
      let batch = entries[start..<min(start + Self.batchCount, entries.count)]
      let nodes = batch.flatMap { $0 }.map { Step.write($0) }
      if batch.count == 1, let one {
        result += nodes + [.emit(one)]
      } else {
        result += [.emit(.mark)] + nodes + [.emit(many)]
      }
    }
    return result
  }

  private mutating func push(_ next: [Step]) { steps += next.reversed() }

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
    guard shared.contains(node.id) else { return }
    let slot = slots.count
    slots[node.id] = slot
    emit(slot, .binPut, .longBinPut)
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
