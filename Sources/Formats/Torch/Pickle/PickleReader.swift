import ModelGraph

/// Reads a pickle as data: runs the stack machine's instructions, but what they would import, call or create becomes a
/// `PickleNode` that says so.
///
/// Invariant: nothing is executed, and no input leads outside the span, to recursion, or to more memory than the limits
/// below allow: an instruction makes one node at most, and both are counted. What is returned names allowed globals
/// only, contains no cycle, and is nested no deeper than `depthLimit`, so that it can be walked and released by
/// recursion. Protocols 2 to 5, CPython's Lib/pickle.py.
package struct PickleReader {
  /// The nodes of a network with some four thousand modules. Each takes some 50 to 150 bytes, whatever it is made from.
  static let nodeLimit = 1 << 19
  /// Most nodes take two or three: to be made, to be put into the memo, to be named again.
  static let instructionLimit = 1 << 22
  /// A module of PyTorch takes six levels; networks are nested some twenty deep.
  package static let depthLimit = 1000

  private let span: ByteSpan
  private var position = 0
  private var stack: [PickleNode] = []
  /// Heights of the stack at which marks were set.
  private var marks: [Int] = []
  private var memo: [PickleNode] = []
  /// Every node there is, so that a pickle that is refused can be taken apart without recursion.
  private var nodes: [PickleNode] = []
  /// What may be done with each of them that is a global.
  private var uses = PickleNodeTable<AllowedGlobals.Use>()
  /// Globals that are allowed only as a tracer, and where they are.
  private var tracers: [ObjectIdentifier: Int] = [:]

  private init(_ span: ByteSpan) { self.span = span }

  /// The object that `span` describes.
  /// - Throws: `Failure` of kind modelUnsafe for a global (`details["global"]`) or an instruction that no model needs,
  ///   modelMalformed for what is no pickle, resourceLimit or cancelled.
  package static func read(_ span: ByteSpan, work: Work) throws(Failure) -> PickleNode {
    var reader = PickleReader(span)
    do throws(Failure) {
      let root = try reader.run(work: work)
      try PickleCheck(root, nodes: reader.nodes, tracers: reader.tracers, offset: span.offset).run(work: work)
      return root
    } catch {
      // Links are cut one by one: chains of any length would otherwise be released by recursion, and cycles never.
      for node in reader.nodes { node.kind = .none }
      throw error
    }
  }

  private mutating func run(work: Work) throws(Failure) -> PickleNode {
    guard span.count >= 2, try byte() == PickleOpcode.proto.rawValue else {
      throw malformed("it does not begin with a protocol version", at: 0)
    }
    let version = try byte()
    guard (2...5).contains(version) else { throw malformed("protocol \(version); 2 to 5 are read", at: 1) }
    var count = 0
    while true {
      count += 1
      if count & 0xffff == 0 { try work.checkCancellation() }
      let offset = position
      guard count <= Self.instructionLimit else {
        throw Failure(
          .resourceLimit, "the pickle has more than \(Self.instructionLimit) instructions",
          details: ["limit": .int(Self.instructionLimit)])
      }
      let code = try byte()
      guard let opcode = PickleOpcode(rawValue: code), opcode != .proto else {
        throw Failure(
          .modelUnsafe,
          "the pickle has the instruction \(PickleOpcode.name(of: code)) (at byte \(span.offset + offset)), which "
            + "PyTorch does not write; nothing in it was executed",
          details: ["opcode": .int(Int(code)), "offset": .int(span.offset + offset)])
      }
      if opcode == .stop { return try finish(at: offset) }
      try execute(opcode, at: offset)
    }
  }

  private mutating func finish(at offset: Int) throws(Failure) -> PickleNode {
    guard position == span.count else {
      throw malformed("\(span.count - position) bytes follow its end", at: position)
    }
    guard stack.count == 1, marks.isEmpty else {
      throw malformed("it ends with \(stack.count) objects and \(marks.count) marks instead of one object", at: offset)
    }
    return stack[0]
  }

  // MARK: Instructions

  private mutating func execute(_ opcode: PickleOpcode, at offset: Int) throws(Failure) {
    switch opcode {
    case .none: try push(.none, at: offset)
    case .newTrue: try push(.bool(true), at: offset)
    case .newFalse: try push(.bool(false), at: offset)
    case .binInt1: try push(.int(Int(try byte())), at: offset)
    case .binInt2: try push(.int(Int(try take(2).u16(0))), at: offset)
    case .binInt: try push(.int(Int(Int32(bitPattern: try take(4).u32(0)))), at: offset)
    case .long1: try push(Self.integer(try take(Int(try byte()))), at: offset)
    case .binFloat:
      try push(.float(Double(bitPattern: try take(8).u64(0).byteSwapped)), at: offset)
    case .shortBinUnicode: try push(.string(try text(Int(try byte()))), at: offset)
    case .binUnicode: try push(.string(try text(Int(try take(4).u32(0)))), at: offset)
    case .shortBinBytes: try push(.bytes(Array(try take(Int(try byte())).buffer)), at: offset)
    case .binBytes: try push(.bytes(Array(try take(Int(try take(4).u32(0))).buffer)), at: offset)
    case .emptyList: try push(.list([]), at: offset)
    case .emptyDict: try push(.dict([]), at: offset)
    case .emptySet: try push(.set([]), at: offset)
    case .emptyTuple: try push(.tuple([]), at: offset)
    case .tuple1: try push(.tuple(try pop(1, at: offset)), at: offset)
    case .tuple2: try push(.tuple(try pop(2, at: offset)), at: offset)
    case .tuple3: try push(.tuple(try pop(3, at: offset)), at: offset)
    case .tuple: try push(.tuple(try pop(nil, at: offset)), at: offset)
    case .mark: marks.append(stack.count)
    case .append: try appendElements(1, at: offset)
    case .appends: try appendElements(nil, at: offset)
    case .addItems: try addMembers(at: offset)
    case .setItem: try setItems(2, at: offset)
    case .setItems: try setItems(nil, at: offset)
    case .binPut: try put(Int(try byte()), at: offset)
    case .longBinPut: try put(Int(try take(4).u32(0)), at: offset)
    case .memoize: try put(memo.count, at: offset)
    case .binGet: try get(Int(try byte()), at: offset)
    case .longBinGet: try get(Int(try take(4).u32(0)), at: offset)
    case .global: try pushGlobal(module: try line(), name: try line(), at: offset)
    case .stackGlobal:
      let names = try pop(2, at: offset)
      guard let module = names[0].string, let name = names[1].string else {
        throw malformed("a global has no names", at: offset)
      }
      try pushGlobal(module: module, name: name, at: offset)
    case .reduce, .newObject: try call(opcode == .reduce ? .reduce : .newObject, at: offset)
    case .build: try build(at: offset)
    case .binPersistentID: try push(.persistent(try pop(1, at: offset)[0]), at: offset)
    case .frame:
      let count = try take(8).u64(0)
      guard count <= UInt64(span.count - position) else { throw malformed("a frame is cut off", at: offset) }
    case .proto, .stop: preconditionFailure("handled where instructions are read")
    }
  }

  private mutating func pushGlobal(module: String, name: String, at offset: Int) throws(Failure) {
    if let use = AllowedGlobals.use(module: module, name: name) {
      uses[try push(.global(module: module, name: name), at: offset)] = use
    } else if AllowedGlobals.isTracerName(module: module, name: name) {
      // Where it stands is known only at the end.
      tracers[try push(.global(module: module, name: name), at: offset).id] = offset
    } else {
      throw .forbiddenGlobal(module: module, name: name, "names", at: span.offset + offset)
    }
  }

  private mutating func call(_ kind: PickleNode.Call.Kind, at offset: Int) throws(Failure) {
    let operands = try pop(2, at: offset)
    guard operands[1].tuple != nil else { throw malformed("a call's arguments are no tuple", at: offset) }
    try require(kind == .reduce ? .reduce : .newObject, of: operands[0], "calls", at: offset)
    try push(.call(PickleNode.Call(kind: kind, callee: operands[0], arguments: operands[1])), at: offset)
  }

  private mutating func build(at offset: Int) throws(Failure) {
    let state = try pop(1, at: offset)[0]
    let target = try top(at: offset)
    guard case .call(var call) = target.kind, call.state == nil else {
      throw malformed("a state is given to what takes none", at: offset)
    }
    try require(.state, of: call.callee, "sets the state of a", at: offset)
    call.state = state
    target.kind = .call(call)
    try nest(state, in: target, at: offset)
  }

  private func require(
    _ use: AllowedGlobals.Use, of callee: PickleNode, _ deed: String, at offset: Int
  ) throws(Failure) {
    guard case .global(let module, let name) = callee.kind else {
      throw malformed("something is called that is no class or function", at: offset)
    }
    guard uses[callee]?.isSuperset(of: use) == true else {
      throw .forbiddenGlobal(module: module, name: name, deed, at: span.offset + offset)
    }
  }

  // MARK: Containers

  /// - Parameter count: as for `pop`.
  private mutating func appendElements(_ count: Int?, at offset: Int) throws(Failure) {
    let elements = try pop(count, at: offset)
    let target = try top(at: offset)
    guard case .list(var list) = target.kind else { throw malformed("elements are appended to no list", at: offset) }
    target.kind = .none
    list += elements
    target.kind = .list(list)
    for element in elements { try nest(element, in: target, at: offset) }
  }

  private mutating func addMembers(at offset: Int) throws(Failure) {
    let members = try pop(nil, at: offset)
    let target = try top(at: offset)
    guard case .set(var set) = target.kind else { throw malformed("members are added to no set", at: offset) }
    target.kind = .none
    set += members
    target.kind = .set(set)
    for member in members { try nest(member, in: target, at: offset) }
  }

  private mutating func setItems(_ count: Int?, at offset: Int) throws(Failure) {
    let items = try pop(count, at: offset)
    guard items.count % 2 == 0 else { throw malformed("a dictionary gets a key without a value", at: offset) }
    let entries = stride(from: 0, to: items.count, by: 2).map { (key: items[$0], value: items[$0 + 1]) }
    let target = try top(at: offset)
    switch target.kind {
    case .dict(var dict):
      target.kind = .none
      dict += entries
      target.kind = .dict(dict)
    case .call(var call):
      try require(.items, of: call.callee, "sets items of a", at: offset)
      target.kind = .none
      call.items += entries
      target.kind = .call(call)
    default: throw malformed("items are set in no dictionary", at: offset)
    }
    for item in items { try nest(item, in: target, at: offset) }
  }

  // MARK: Stack and memo

  @discardableResult
  private mutating func push(_ kind: PickleNode.Kind, at offset: Int) throws(Failure) -> PickleNode {
    guard nodes.count < Self.nodeLimit else {
      throw Failure(
        .resourceLimit, "the pickle has more than \(Self.nodeLimit) objects (at byte \(span.offset + offset))",
        details: ["limit": .int(Self.nodeLimit)])
    }
    let node = PickleNode(kind)
    node.number = Int32(nodes.count)
    nodes.append(node)
    try node.forEachChild { child throws(Failure) in try nest(child, in: node, at: offset) }
    stack.append(node)
    return node
  }

  /// What is nested too deep is refused as soon as that is plain, before memory is spent on more of it; `PickleCheck`
  /// finds what became so only by what was put into an object later.
  private func nest(_ child: PickleNode, in node: PickleNode, at offset: Int) throws(Failure) {
    node.levels = max(node.levels, child.levels + 1)
    guard node.levels <= Self.depthLimit else { throw .deepPickle(span.offset + offset) }
  }

  /// How many objects lie above the last mark.
  private var available: Int { stack.count - (marks.last ?? 0) }

  /// - Parameter count: how many objects; nil takes all above the last mark, and the mark.
  private mutating func pop(_ count: Int?, at offset: Int) throws(Failure) -> [PickleNode] {
    let height: Int
    if let count {
      guard available >= count else { throw malformed("an instruction finds too few objects", at: offset) }
      height = stack.count - count
    } else {
      guard let mark = marks.popLast() else { throw malformed("an instruction finds no mark", at: offset) }
      height = mark
    }
    defer { stack.removeLast(stack.count - height) }
    return Array(stack[height...])
  }

  private func top(at offset: Int) throws(Failure) -> PickleNode {
    guard available > 0, let node = stack.last else {
      throw malformed("an instruction finds too few objects", at: offset)
    }
    return node
  }

  /// Slots are given in order, as every writer does, so that a number cannot claim memory.
  private mutating func put(_ index: Int, at offset: Int) throws(Failure) {
    let node = try top(at: offset)
    guard index <= memo.count, index < Self.nodeLimit else {
      throw malformed("memo slot \(index) is set where \(memo.count) is the next", at: offset)
    }
    if index == memo.count { memo.append(node) } else { memo[index] = node }
  }

  private mutating func get(_ index: Int, at offset: Int) throws(Failure) {
    guard index < memo.count else { throw malformed("memo slot \(index) is empty", at: offset) }
    guard stack.count < Self.nodeLimit else { throw malformed("it stacks too many objects", at: offset) }
    stack.append(memo[index])
  }

  // MARK: Bytes

  private mutating func byte() throws(Failure) -> UInt8 { try take(1).base.load(as: UInt8.self) }

  private mutating func take(_ count: Int) throws(Failure) -> ByteSpan {
    guard count <= span.count - position else {
      throw malformed("it is cut off: \(count) bytes are needed where \(span.count - position) are left", at: position)
    }
    defer { position += count }
    return span[position..<(position + count)]
  }

  private mutating func text(_ count: Int) throws(Failure) -> String {
    let bytes = try take(count)
    guard let text = bytes.text else { throw malformed("a text is not UTF-8", at: position - count) }
    return text
  }

  /// Up to the next line feed, which is left out. Names are short; what is not is no name.
  private mutating func line() throws(Failure) -> String {
    let rest = span[position..<min(span.count, position + 1000)]
    guard let count = rest.buffer.firstIndex(of: UInt8(ascii: "\n")) else {
      throw malformed("a global's name does not end", at: position)
    }
    let text = try text(count)
    position += 1
    return text
  }

  /// Two's complement, little-endian, of any length; none is zero.
  private static func integer(_ bytes: ByteSpan) -> PickleNode.Kind {
    guard bytes.count <= 8 else { return .bigInteger(Array(bytes.buffer)) }
    var value = 0
    for (index, byte) in bytes.buffer.enumerated() { value |= Int(byte) << (8 * index) }
    let unused = 64 - 8 * bytes.count
    return .int(bytes.isEmpty ? 0 : (value << unused) >> unused)
  }

  private func malformed(_ reason: String, at position: Int) -> Failure {
    .malformed("not a valid pickle: \(reason)", at: span.offset + position)
  }
}
