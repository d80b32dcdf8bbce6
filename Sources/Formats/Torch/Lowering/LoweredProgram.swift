import ModelGraph

/// A program as the one graph, and where in the program every part of the graph comes from.
struct LoweredProgram: Sendable {
  let graph: Graph
  /// By node: index into the program's calls.
  let calls: [Int]
  /// Stored tensors that are parameters, by their first state-dict name.
  let parameters: [ValueID: String]
  /// Stored integers that are literals, or follow from them.
  let literals: [ValueID: LiteralSource]
  /// Lists of integers that the program computes, by element: where it hands them over.
  let lists: [ValueID: [ArgumentPlace?]]
  /// Attributes of nodes that are settings of the program.
  let settings: [NodeSetting: SettingSource]
  /// Literals that repeat a length without any node reading them.
  let repeated: [RepeatedLength]
  /// Numbers that the program computes from lengths.
  let numbers: [ComputedNumber]
  /// Integers that the program computes from lengths and hands to operators on tensors.
  let scalars: [ValueID: ComputedInteger]
  /// What the program asserts about lengths.
  let assertions: [Assertion]
  /// Attention without a scale of its own, whose scale is that of the width it has.
  let impliedScales: [ImpliedScale]
  /// The values that calls bind, by name: of what the file declares shapes for.
  let results: [String: ValueID]
  /// What calls of modules are given first, by index of the call.
  let inputs: [Int: ValueID]
}

/// What a stored integer tensor of the graph is in the program.
enum LiteralSource: Sendable {
  /// By element; nil for an element that nobody wrote and nothing can change.
  case elements([ArgumentPlace?])
  /// Where a range ends that the program gives by its start, `start`, and its length.
  case end(start: ValueID, length: ArgumentPlace)
  /// The sizes of the parts of a `split` with one size or a `chunk`.
  case parts(call: Int)
  /// It follows from the parameters' shapes by itself.
  case follows
}

struct NodeSetting: Hashable, Sendable {
  let node: NodeID
  let attribute: String
}

enum SettingSource: Sendable {
  case literal(ArgumentPlace)
  case attribute(module: String, name: String)
  /// It follows from the parameters' shapes by itself.
  case follows
}

struct RepeatedLength: Sendable {
  let place: ArgumentPlace
  let value: ValueID
  let axis: Int
}

struct ImpliedScale: Sendable {
  let call: Int
  /// Queries, whose last axis is the width.
  let queries: ValueID
  let rank: Int
  let scale: Double
}

/// A real number that follows from lengths in the program and that the graph has as a constant: it keeps its value.
struct ComputedNumber: Sendable {
  let place: ArgumentPlace
  let number: Double
  let uses: [LengthUse]
}

/// The same for an integer.
struct ComputedInteger: Sendable {
  let place: ArgumentPlace
  let value: Int
}

/// A call that checks lengths, which need not hold for others.
struct Assertion: Sendable {
  let call: Int
  let uses: [LengthUse]
}

struct LengthUse: Hashable, Sendable {
  let value: ValueID
  let axis: Int
}
