import ModelGraph

/// What a name of a program stands for while the program is lowered: a value of the graph, or something of Python's
/// that never reaches it.
indirect enum TorchValue: Sendable {
  case tensor(ValueID)
  case integer(TorchInteger)
  case float(Double)
  /// A number that the program computes from lengths.
  case computed(Double, from: [LengthUse])
  case bool(Bool)
  case none
  case string(String)
  case symbol(String)
  /// Lists and tuples, which no operator tells apart.
  case list([TorchValue])
  case dictionary([Entry])
  case slice(start: TorchValue, end: TorchValue, step: TorchValue)
  case ellipsis

  struct Entry: Sendable {
    let key: String
    let value: TorchValue
  }

  var isNone: Bool { if case .none = self { true } else { false } }

  /// For messages.
  var kind: String {
    switch self {
    case .tensor: "a tensor"
    case .integer: "an integer"
    case .float, .computed: "a number"
    case .bool: "a truth value"
    case .none: "None"
    case .string: "a string"
    case .symbol(let name): name
    case .list: "a list"
    case .dictionary: "a dictionary"
    case .slice: "a slice"
    case .ellipsis: "..."
    }
  }
}

/// An integer that the program handles outside of tensors: a literal, a length, or what is computed from them.
struct TorchInteger: Sendable {
  /// Under the nominal lengths of the inputs.
  let value: Int
  let source: Source

  indirect enum Source: Sendable {
    /// `nil` for numbers that nobody wrote (defaults, settings of modules).
    case literal(ArgumentPlace?)
    case length(ValueID, axis: Int)
    /// An ONNX operator on integers ("Add", "Mul", "Div").
    case operation(String, TorchInteger, TorchInteger)
    /// What a tensor of one integer holds.
    case element(ValueID)
  }

  /// Where the call that reads it has it as an argument.
  var readAt: ArgumentPlace?

  init(_ value: Int, _ source: Source = .literal(nil)) { (self.value, self.source) = (value, source) }

  /// The lengths that enter it.
  var uses: [LengthUse] {
    switch source {
    case .literal, .element: []
    case .length(let value, let axis): [LengthUse(value: value, axis: axis)]
    case .operation(_, let a, let b): a.uses + b.uses
    }
  }

  /// Whether it follows from literals alone, whatever lengths the network has.
  var isLiteral: Bool { if case .literal = source { true } else { false } }
  var place: ArgumentPlace? { if case .literal(let place) = source { place } else { nil } }
}
