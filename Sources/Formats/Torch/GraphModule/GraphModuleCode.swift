import ModelGraph

/// What a GraphModule's Python code computes: its inputs, its calls in order, and what it returns.
///
/// Invariant: the text is, line by line, what torch.fx prints of a graph; every name that a call refers to was bound by
/// an input or a call before, and not set to None since. The text is kept: `statement(of:)` says where a call's parts
/// stand in it.
struct GraphModuleCode {
  let text: ByteSpan
  private(set) var inputs: [TorchProgram.Input] = []
  private(set) var calls: [TorchCall] = []
  private(set) var output: TorchArgument = .none
  /// Parameters and buffers that a run changes.
  private(set) var mutated: Set<String> = []
  /// Where the names are bound that stand for parameters or settings.
  private(set) var reads: [String: Int] = [:]
  /// By call: where its statement starts.
  private var starts: [Int] = []
  /// Of the last line of the body.
  private(set) var returnStart = 0

  /// - Parameters:
  ///   - text: Python source as the pickle holds it.
  ///   - modules: what `self` stands for.
  /// - Throws: modelUnsafe for text that torch.fx does not write, modelMalformed for code that cannot run.
  init(_ text: ByteSpan, imports: CodeImports, modules: ModuleTree) throws(Failure) {
    self.text = text
    guard text.count <= Self.longestText else {
      throw .codeTooLarge("\(text.count) bytes of text", limit: Self.longestText)
    }
    var reader = CodeReader(text, imports: imports, modules: modules)
    try reader.header()
    inputs = reader.inputs
    var changed: Set<Int> = []
    while true {
      guard try reader.skipIndentation() else { throw reader.scanner.unexpected() }
      let start = reader.scanner.position
      try reader.checkLine()
      let statement = try reader.scanner.statement()
      if case .returned = statement.form {
        output = try reader.argument(statement.operands[0].expression)
        returnStart = start
        break
      }
      if let call = try reader.call(statement) {
        if reader.changesReceiver(statement, call) { changed.insert(calls.count) }
        calls.append(call)
        starts.append(start)
      } else if case .read = statement.form {
        reads[reader.scanner.string(statement.target)] = start
      } else if case .alias = statement.form, let read = reads[reader.scanner.string(statement.value)] {
        reads[reader.scanner.string(statement.target)] = read
      }
      try reader.frees()
    }
    try reader.end()
    mutated = try InPlaceStatements.resolve(&calls, &output, changed: changed)
  }

  /// Ten times the text of the largest networks, so that what is made of it stays in proportion to a file.
  private static let longestText = 1 << 24

  /// Where the parts of a call stand.
  func statement(of call: Int) throws(Failure) -> CodeStatement { try statement(at: starts[call]) }

  /// Every identifier in the text.
  var identifiers: Set<String> {
    var names: Set<String> = []
    var scanner = CodeScanner(text)
    while !scanner.isAtEnd {
      if let name = Ascii.startsIdentifier(scanner.byte) ? try? scanner.identifier() : nil {
        names.insert(scanner.string(name))
      } else {
        scanner.move(to: scanner.position + 1)
      }
    }
    return names
  }

  /// Where the line of a call starts.
  func lineStart(of call: Int) -> Int { starts[call] - CodeReader.indentation.utf8CodeUnitCount }

  /// The statement that starts at `start`.
  func statement(at start: Int) throws(Failure) -> CodeStatement {
    var scanner = CodeScanner(text)
    scanner.move(to: start)
    return try scanner.statement()
  }
}

extension Failure {
  static func codeTooLarge(_ what: String, limit: Int) -> Failure {
    Failure(
      .resourceLimit, "the model's code has \(what); up to \(limit) are read", details: ["limit": .int(limit)])
  }
}
