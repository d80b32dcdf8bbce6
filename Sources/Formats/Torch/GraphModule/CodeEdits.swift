import ModelGraph

/// Changes to a GraphModule's code: spans that get other text, and lines put before others.
///
/// Invariant: every byte that no change names stays what it is, and changes do not overlap; so the new text is read by
/// the same grammar, and differs from the old one where it has to.
struct CodeEdits {
  private let code: GraphModuleCode
  private let program: TorchProgram
  private var changes: [(range: Range<Int>, text: String)] = []
  /// By where the line starts.
  private var lines: [Int: [String]] = [:]
  /// Literals that stand behind a name, changed element by element.
  private var literals: [Range<Int>: TorchArgument] = [:]
  private var names: UniqueNames

  var isEmpty: Bool { changes.isEmpty && lines.isEmpty && literals.isEmpty }

  init(_ code: GraphModuleCode, _ program: TorchProgram) {
    (self.code, self.program) = (code, program)
    names = UniqueNames(taken: code.identifiers)
  }

  // MARK: Values

  mutating func set(_ place: ArgumentPlace, to value: Int) throws(Failure) {
    let statement = try statement(place.call)
    var expression = try operand(place.path.first ?? 0, of: statement, call: place.call).expression
    var depth = 1
    while depth < place.path.count, !expression.elements.isEmpty {
      guard place.path[depth] < expression.elements.count else {
        throw misfit("element \(place.path) of call \(place.call)")
      }
      expression = expression.elements[place.path[depth]]
      depth += 1
    }
    guard depth < place.path.count else {
      change(expression.range, String(value))
      return
    }
    // The elements are behind a name: the whole literal takes its place.
    let whole =
      if let known = literals[expression.range] { known } else {
        try argument(at: Array(place.path[..<depth]), call: place.call)
      }
    literals[expression.range] = try replacing(whole, place.path[depth...], value)
  }

  /// The integer at `place` becomes `(it * multiplier) // divisor + offset`.
  mutating func adjust(
    _ place: ArgumentPlace, multiplier: Int, divisor: Int, offset: Int
  ) throws(Failure) {
    let statement = try statement(place.call)
    var expression = try operand(place.path.first ?? 0, of: statement, call: place.call).expression
    for index in place.path.dropFirst() {
      guard index < expression.elements.count else { throw misfit("element \(place.path) of call \(place.call)") }
      expression = expression.elements[index]
    }
    var value = text(expression.range)
    var last: String?
    for (operation, number, identity) in [("*", multiplier, 1), ("//", divisor, 1), ("+", offset, 0)] {
      guard number != identity else { continue }
      let name = names.make("width")
      let free = last.map { ";  \($0) = None" } ?? ""
      let (shown, magnitude) = operation == "+" && number < 0 ? ("-", -number) : (operation, number)
      insert("\(name) = \(value) \(shown) \(magnitude)" + free, before: place.call)
      (value, last) = (name, name)
    }
    if last != nil { change(expression.range, value) }
  }

  mutating func setKeyword(call: Int, name: String, to value: TorchArgument) throws(Failure) {
    let statement = try statement(call)
    let text = try python(value, before: call)
    if let operand = statement.operands.first(where: { $0.keyword.map { self.text($0) } == name }) {
      change(operand.expression.range, text)
    } else {
      guard let close = statement.close else { throw misfit("an argument '\(name)' of call \(call), which takes none") }
      append("\(name) = \(text)", at: close, of: statement)
    }
  }

  mutating func setArgument(call: Int, index: Int, to value: TorchArgument) throws(Failure) {
    let statement = try statement(call)
    let text = try python(value, before: call)
    let positional = statement.operands.filter { $0.keyword == nil }
    if index < positional.count {
      change(positional[index].expression.range, text)
      return
    }
    guard index == positional.count, let close = statement.close else {
      throw misfit("argument \(index) of call \(call)")
    }
    if let next = statement.operands.first(where: { $0.keyword != nil }) {
      change(next.range.lowerBound..<next.range.lowerBound, text + ", ")
    } else {
      append(text, at: close, of: statement)
    }
  }

  mutating func setFunction(call: Int, name: String) throws(Failure) {
    let statement = try statement(call)
    for operand in statement.operands {
      if let keyword = operand.keyword, let new = Self.keywords[name]?[text(keyword)] { change(keyword, new) }
    }
    switch statement.form {
    case .method(let range): change(range, name)
    case .function(let range):
      let old = text(range)
      change(range, (old.hasPrefix("torch.ops.aten.") ? "torch.ops.aten." : "torch.") + name)
    case .imported(let range): change(range, "torch.\(name)")
    case .operation, .attribute:
      let operands = statement.operands.map { text($0.range) }
      change(statement.value, "torch.\(name)(\(operands.joined(separator: ", ")))")
    case .module, .augmented, .read, .alias, .returned: throw misfit("another function for call \(call)")
    }
  }

  /// By function: its names for arguments that other functions call otherwise.
  private static let keywords = [
    "split_with_sizes": [
      "split_size": "split_sizes", "split_size_or_sections": "split_sizes", "chunks": "split_sizes", "tensor": "input",
    ]
  ]

  // MARK: Statements

  /// What the call computes is computed by `text` from now on.
  mutating func setValue(of call: Int, to text: String) throws(Failure) { change(try statement(call).value, text) }

  /// The line that reads a parameter reads another.
  mutating func setPath(of name: String, to path: String) throws(Failure) {
    guard let start = code.reads[name] else { throw misfit("the name '\(name)', which reads nothing") }
    change(try code.statement(at: start).value, Self.reference(to: path))
  }

  mutating func insert(_ statement: String, before call: Int) {
    lines[code.lineStart(of: call), default: []].append(statement)
  }

  mutating func newName(_ wanted: String) -> String { names.make(wanted) }

  /// The text of an argument, by position or by keyword.
  func argumentText(call: Int, _ argument: AppliedOperands.Operand) throws(Failure) -> String? {
    let statement = try statement(call)
    if let operand = statement.operands.first(where: { $0.keyword.map { argument.names.contains(text($0)) } ?? false })
    {
      return text(operand.expression.range)
    }
    let positional = statement.operands.filter { $0.keyword == nil }
    return argument.index < positional.count ? text(positional[argument.index].expression.range) : nil
  }

  // MARK: The new text

  /// The whole text with all changes made.
  func applied() throws(Failure) -> String {
    var all = changes + literals.map { ($0.key, Self.python(literal: $0.value)) }
    all += lines.map { start, statements in
      (start..<start, statements.map { "    \($0)\n" }.joined())
    }
    // Of changes at one place, those that came first stand first.
    let sorted = all.enumerated().sorted {
      ($0.element.0.lowerBound, $0.element.0.upperBound, $0.offset) < (
        $1.element.0.lowerBound, $1.element.0.upperBound, $1.offset
      )
    }
    var bytes: [UInt8] = []
    var position = 0
    for (_, (range, text)) in sorted {
      guard range.lowerBound >= position else { throw misfit("two changes of the same text") }
      bytes += code.text[position..<range.lowerBound].buffer
      bytes += Array(text.utf8)
      position = range.upperBound
    }
    bytes += code.text[position..<code.text.count].buffer
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: Parts

  private mutating func change(_ range: Range<Int>, _ text: String) {
    // The same edit of a module that is called twice comes twice.
    if changes.contains(where: { !range.isEmpty && $0.range == range && $0.text == text }) { return }
    changes.append((range, text))
  }

  /// One more argument of a call.
  private mutating func append(_ argument: String, at close: Int, of statement: CodeStatement) {
    let isFirst = !statement.hasArguments && !changes.contains { $0.range == close..<close }
    change(close..<close, (isFirst ? "" : ", ") + argument)
  }

  private func statement(_ call: Int) throws(Failure) -> CodeStatement {
    guard program.calls.indices.contains(call) else { throw misfit("call \(call) of \(program.calls.count)") }
    return try code.statement(of: call)
  }

  private func operand(_ index: Int, of statement: CodeStatement, call: Int) throws(Failure) -> CodeStatement.Operand {
    guard statement.operands.indices.contains(index) else { throw misfit("argument \(index) of call \(call)") }
    return statement.operands[index]
  }

  private func text(_ range: Range<Int>) -> String { code.text[range].displayName }

  private func argument(at path: [Int], call: Int) throws(Failure) -> TorchArgument {
    let call = program.calls[call]
    let index = path[0]
    var value = index < call.arguments.count ? call.arguments[index] : call.keywords[index - call.arguments.count].value
    for index in path.dropFirst() {
      guard let elements = value.elements, index < elements.count else { throw misfit("element \(path) of a call") }
      value = elements[index]
    }
    return value
  }

  private func replacing(
    _ whole: TorchArgument, _ path: ArraySlice<Int>, _ value: Int
  ) throws(Failure) -> TorchArgument {
    guard let index = path.first else { return .int(value) }
    guard var elements = whole.elements, index < elements.count else {
      throw misfit("element \(Array(path)) of a literal")
    }
    elements[index] = try replacing(elements[index], path.dropFirst(), value)
    if case .list = whole { return .list(elements) }
    return .tuple(elements)
  }

  private func misfit(_ what: String) -> Failure {
    Failure(.certificateFailed, "the edits ask for \(what), which the model's code does not have")
  }
}

extension CodeEdits {
  // MARK: Python

  /// The text of a value; what it reads of the modules is read on a line of its own.
  private mutating func python(_ value: TorchArgument, before call: Int) throws(Failure) -> String {
    guard case .parameter(let path) = value else { return Self.python(literal: value) }
    let name = names.make(Self.localName(path))
    insert("\(name) = \(Self.reference(to: path))", before: call)
    return name
  }

  /// A local name for what is at `path`, as torch.fx makes them.
  static func localName(_ path: String) -> String {
    let bytes = path.utf8.map { Ascii.continuesIdentifier($0) ? $0 : Ascii.underscore }
    let name = String(decoding: bytes, as: UTF8.self)
    return Ascii.startsIdentifier(bytes.first ?? 0) ? name : "_" + name
  }

  /// `self.a.b` or `getattr(self.a, "0").b`.
  static func reference(to path: String) -> String {
    path.split(separator: ".").reduce("self") { text, part in
      let isName = Ascii.startsIdentifier(part.utf8.first ?? 0) && part.utf8.allSatisfy(Ascii.continuesIdentifier)
      return isName ? "\(text).\(part)" : "getattr(\(text), \"\(part)\")"
    }
  }

  /// A value as torch.fx prints it.
  static func python(literal value: TorchArgument) -> String {
    func list(_ elements: [TorchArgument]) -> String {
      elements.map { python(literal: $0) }.joined(separator: ", ")
    }
    switch value {
    case .reference(let name), .symbol(let name): return name
    case .parameter(let path): return reference(to: path)
    case .none: return "None"
    case .bool(let value): return value ? "True" : "False"
    case .int(let value): return String(value)
    case .float(let value): return value.description
    case .string(let text): return quoted(text)
    case .list(let elements): return "[\(list(elements))]"
    case .tuple(let elements): return elements.count == 1 ? "(\(list(elements)),)" : "(\(list(elements)))"
    case .dictionary(let entries):
      return "{" + entries.map { "\(quoted($0.key)): \(python(literal: $0.value))" }.joined(separator: ", ") + "}"
    case .slice(let start, let end, let step): return "slice(\(list([start, end, step])))"
    case .ellipsis: return "Ellipsis"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "'"
    for scalar in text.unicodeScalars {
      switch scalar {
      case "'": result += "\\'"
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case let scalar where scalar.value < 0x20 || scalar.value == 0x7f:
        let hex = String(scalar.value, radix: 16)
        result += "\\x" + (hex.count == 1 ? "0" : "") + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "'"
  }
}

extension TorchArgument {
  /// What the elements of an `ArgumentPlace` count.
  fileprivate var elements: [TorchArgument]? {
    switch self {
    case .list(let elements), .tuple(let elements): elements
    default: nil
    }
  }
}

extension CodeStatement {
  /// Whether something stands between a call's parentheses.
  fileprivate var hasArguments: Bool {
    if case .method = form { operands.count > 1 } else { !operands.isEmpty }
  }
}
