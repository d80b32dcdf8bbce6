import Glibc
import ModelGraph

/// Reads the code line by line, and knows what each name stands for.
struct CodeReader {
  var scanner: CodeScanner
  private(set) var inputs: [TorchProgram.Input] = []
  private let imports: CodeImports
  private let modules: ModuleTree
  /// What names stand for; nil once they were set to None.
  private var bindings = NameTable<TorchArgument?>()
  /// By qualified name: what was looked up before.
  private var functions = NameTable<String>()
  private var methods = NameTable<String>()
  private var attributes = NameSet()
  private var argumentCount = 0

  static let indentation: StaticString = "    "
  /// What the code's own grammar gives a meaning.
  private static let reserved = [
    "self", "torch", "getattr", "slice", "device", "inf", "nan", "None", "True", "False", "Ellipsis", "NoneType",
    "fx_pytree", "pytree", "return",
  ]
  private let reservedNames: TensorBytes

  init(_ text: ByteSpan, imports: CodeImports, modules: ModuleTree) {
    (scanner, self.imports, self.modules) = (CodeScanner(text), imports, modules)
    reservedNames = TensorBytes(copying: Array(Self.reserved.joined(separator: " ").utf8))
    bindings.reserveCapacity(text.count / Self.typicalLine)
    // Names that mean something else are as if they were bound and gone: nobody can bind or read them.
    imports.functions.forEach { name, _ in bindings.updateValue(nil, forKey: name) }
    let span = ByteSpan(base: reservedNames.base, count: reservedNames.count)
    var start = 0
    for end in 0...span.count where end == span.count || span.buffer[end] == Ascii.space {
      bindings.updateValue(nil, forKey: span[start..<end])
      start = end + 1
    }
  }

  /// Bytes of a line with a name to bind.
  private static let typicalLine = 64

  // MARK: Lines

  /// The lines before the body.
  mutating func header() throws(Failure) {
    while !scanner.take("def forward(self") {
      if scanner.take("torch.fx._symbolic_trace.wrap(\"") {
        let name = try scanner.identifier()
        guard case .some(.some) = imports.functions[scanner.span(name)] else {
          throw scanner.malformed("a wrapped function that is not imported")
        }
        try scanner.expect("\")")
      }
      guard !scanner.isAtEnd else { throw scanner.unexpected() }
      try scanner.expectLineEnd()
    }
    while !scanner.take(Ascii.closeParenthesis) {
      try scanner.expect(Ascii.comma)
      try parameter()
    }
    if scanner.take(" -> ") { try scanner.annotation() }
    try scanner.expect(Ascii.colon)
    try scanner.expectLineEnd()
  }

  /// One that has a default always has it, since a network is run on its inputs alone.
  private mutating func parameter() throws(Failure) {
    let name = try scanner.identifier()
    if scanner.take(Ascii.colon) { try scanner.annotation() }
    if scanner.take(Ascii.equals) {
      try bind(name, try argument(try scanner.expression()))
    } else {
      inputs.append(TorchProgram.Input(name: scanner.string(name), dtype: nil, shape: nil))
      try bind(name, .reference(scanner.string(name)))
    }
  }

  /// Moves to the next line's statement; false where there is none.
  mutating func skipIndentation() throws(Failure) -> Bool {
    while scanner.byte == Ascii.newline { scanner.move(to: scanner.position + 1) }
    return scanner.take(Self.indentation) && scanner.byte != Ascii.space
  }

  /// Looks at how long the line is before it is read.
  func checkLine() throws(Failure) {
    let rest = scanner.span(scanner.position..<scanner.text.count)
    let length = memchr(rest.base, Int32(Ascii.newline), rest.count).map { UnsafeRawPointer($0) - rest.base }
    guard length ?? rest.count <= Self.longestLine else {
      throw .codeTooLarge("a line of \(length ?? rest.count) bytes", limit: Self.longestLine)
    }
  }

  private static let longestLine = 1 << 20
  /// Of all calls; a million take some 64 MB.
  private static let argumentLimit = 1_000_000

  /// What follows a statement: names set to None, and the line's end.
  mutating func frees() throws(Failure) {
    if scanner.take(Ascii.semicolon) {
      while true {
        let name = try scanner.identifier()
        if scanner.span(name).equals("None") { break }
        try scanner.expect(Ascii.equals)
        guard case .some(.some) = bindings.updateValue(nil, forKey: scanner.span(name)) else {
          throw scanner.malformed("a name that nothing has bound")
        }
      }
    }
    try scanner.expectLineEnd()
  }

  /// What follows `return`.
  mutating func end() throws(Failure) {
    while !scanner.isAtEnd { try scanner.expectLineEnd() }
  }

  // MARK: Calls

  /// The call that a statement makes; nil where it only gives a name to what there is.
  mutating func call(_ statement: CodeStatement) throws(Failure) -> TorchCall? {
    let target: TorchCall.Target
    var scope = ""
    switch statement.form {
    case .returned: return nil
    case .alias:
      try bind(statement.target, try argument(statement.operands[0].expression))
      return nil
    case .read(let path):
      guard let value = modules.value(at: text(of: path)) else {
        throw scanner.malformed("a reference to what is no parameter, buffer or setting of the model")
      }
      try bind(statement.target, value)
      return nil
    case .module(let path):
      guard let module = modules.module(at: text(of: path)) else {
        throw scanner.malformed("a call of what is no module of the model")
      }
      (target, scope) = (.module(module), module.path)
    case .function(let name): target = .function(try function(name))
    case .imported(let name):
      guard let function = imports.functions[scanner.span(name)] ?? nil else { throw refusedFunction(name) }
      target = .function(function)
    case .method(let name): target = .function(try method(name))
    case .attribute:
      try checkAttribute(statement.operands[1].range)
      target = .function("getattr")
    case .operation(let operation), .augmented(let operation): target = .function(operation.function)
    }
    let (arguments, keywords) = try operands(statement)
    try checkReceiver(statement, target, arguments)
    let name = scanner.string(statement.target)
    let call = TorchCall(
      target: target, arguments: arguments, keywords: keywords, results: [name], bindsElements: false, scope: scope,
      declared: [])
    try bind(statement.target, .reference(name))
    if case .augmented = statement.form {
      bindings.updateValue(.reference(name), forKey: scanner.span(statement.operands[0].range))
    }
    return call
  }

  private mutating func operands(_ statement: CodeStatement) throws(Failure) -> ([TorchArgument], [TorchCall.Keyword]) {
    var arguments: [TorchArgument] = []
    var keywords: [TorchCall.Keyword] = []
    arguments.reserveCapacity(statement.operands.count)
    for operand in statement.operands {
      let value = try argument(operand.expression)
      if let keyword = operand.keyword {
        let name = scanner.string(keyword)
        guard !keywords.contains(where: { $0.name == name }) else {
          throw scanner.malformed("the argument '\(name)' twice")
        }
        keywords.append(TorchCall.Keyword(name: name, value: value))
      } else {
        arguments.append(value)
      }
    }
    return (arguments, keywords)
  }

  /// Attributes and methods of what the network computes are known; those of other values can be anything.
  private func checkReceiver(
    _ statement: CodeStatement, _ target: TorchCall.Target, _ arguments: [TorchArgument]
  ) throws(Failure) {
    var isRead = false
    switch statement.form {
    case .method, .attribute: isRead = true
    case .imported:
      if case .function("getattr") = target {
        isRead = true
        guard arguments.count >= 2, case .string(let name) = arguments[1], CodeVocabulary.isAttribute(name[...]) else {
          throw scanner.unexpected()
        }
      }
    default: break
    }
    guard isRead else { return }
    switch arguments[0] {
    case .reference, .parameter: break
    default: throw scanner.malformed("an attribute of what is no tensor")
    }
  }

  /// Whether the call changes its first argument.
  func changesReceiver(_ statement: CodeStatement, _ call: TorchCall) -> Bool {
    switch statement.form {
    case .method(let name), .function(let name):
      return CodeVocabulary.isInPlace(scanner.span(name))
        || call.keywords.contains { $0.name == "inplace" && $0.value == .bool(true) }
    case .module:
      guard case .module(let module) = call.target else { return false }
      return module.attributes["inplace"] == .bool(true)
    default: return false
    }
  }

  private mutating func function(_ name: Range<Int>) throws(Failure) -> String {
    let span = scanner.span(name)
    if let known = functions[span] { return known }
    guard let function = CodeVocabulary.function(span) else { throw refusedFunction(name) }
    functions[span] = function
    return function
  }

  private mutating func method(_ name: Range<Int>) throws(Failure) -> String {
    let span = scanner.span(name)
    if let known = methods[span] { return known }
    guard let method = CodeVocabulary.operation(scanner.string(name)[...]) else { throw refusedFunction(name) }
    methods[span] = method
    return method
  }

  private mutating func checkAttribute(_ name: Range<Int>) throws(Failure) {
    let span = scanner.span(name)
    guard !attributes.contains(span) else { return }
    guard CodeVocabulary.isAttribute(scanner.string(name)[...]) else { throw refusedFunction(name) }
    attributes.insert(span)
  }

  private func refusedFunction(_ name: Range<Int>) -> Failure {
    if scanner.span(name).displayName.hasPrefix("fx_pytree.") || scanner.span(name).equals("fx_pytree") {
      return .pytreeCode
    }
    return scanner.failure(
      .modelUnsafe, "a call of '\(scanner.string(name))', which is no operator of PyTorch's that a network needs")
  }

  // MARK: Values

  mutating func argument(_ expression: CodeExpression) throws(Failure) -> TorchArgument {
    argumentCount += 1
    guard argumentCount <= Self.argumentLimit else {
      throw .codeTooLarge("\(argumentCount) arguments", limit: Self.argumentLimit)
    }
    switch expression.value {
    case .constant(let constant): return constant
    case .name:
      guard let argument = bindings[scanner.span(expression.range)] ?? nil else {
        throw scanner.malformed("'\(scanner.string(expression.range))', which nothing has bound")
      }
      return argument
    case .list(let elements): return .list(try arguments(elements))
    case .tuple(let elements): return .tuple(try arguments(elements))
    case .slice(let parts):
      return .slice(start: try argument(parts[0]), end: try argument(parts[1]), step: try argument(parts[2]))
    case .dictionary(let entries):
      var values: [TorchArgument.Entry] = []
      for entry in entries { values.append(.init(key: entry.key, value: try argument(entry.value))) }
      return .dictionary(values)
    }
  }

  private mutating func arguments(_ expressions: [CodeExpression]) throws(Failure) -> [TorchArgument] {
    var arguments: [TorchArgument] = []
    arguments.reserveCapacity(expressions.count)
    for expression in expressions { arguments.append(try argument(expression)) }
    return arguments
  }

  private mutating func bind(_ name: Range<Int>, _ argument: TorchArgument) throws(Failure) {
    guard let old = bindings.updateValue(argument, forKey: scanner.span(name)) else { return }
    let text = scanner.string(name)
    guard old == nil, Self.reserved.contains(text) || imports.functions[scanner.span(name)] != nil else {
      throw scanner.malformed("'\(text)', which is bound before")
    }
    throw scanner.failure(.modelUnsafe, "another meaning for '\(text)'")
  }

  /// The dotted path.
  private func text(of path: CodePath) -> String {
    let (first, last) = (path.components[0], path.components[path.components.count - 1])
    // Without getattr the components stand one behind the other.
    let whole = first.lowerBound..<last.upperBound
    if whole.count == path.components.reduce(path.components.count - 1, { $0 + $1.count }) {
      return scanner.string(whole)
    }
    var bytes: [UInt8] = []
    for component in path.components {
      if !bytes.isEmpty { bytes.append(Ascii.dot) }
      bytes += scanner.span(component).buffer
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
