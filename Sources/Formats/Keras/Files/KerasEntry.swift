import JSON

/// A layer, operation or model as the configuration describes it, before its variables are found.
///
/// Invariant: entries are a tree, but for layers that Keras says are one object (`shared_object_id`), which several
/// models hold; the tree is as deep as the text is nested.
final class KerasEntry: Sendable {
  let kind: KerasLayer.Kind
  let className: String
  let module: String
  let name: String
  let path: String
  let settings: JSONElement
  let description: JSONElement
  /// `trainable` of its settings; variables of layers that are not trained stand last in legacy files.
  let isTrainable: Bool
  /// The variables that it has itself; nil takes whatever is there.
  let slots: [KerasSlot]?
  let parts: [Part]
  /// What it is made of, for Sequential and Functional.
  let network: KerasNetwork?
  /// The group of the weights of a v3 archive that holds it: "layers/conv2d_1". Empty for the outermost model.
  let storage: String

  struct Part: Sendable {
    let role: String
    let entry: KerasEntry
  }

  init(
    kind: KerasLayer.Kind, className: String, module: String, name: String, path: String, settings: JSONElement,
    description: JSONElement, slots: [KerasSlot]?, parts: [Part], network: KerasNetwork?, storage: String
  ) {
    (self.kind, self.className, self.module, self.name, self.path) = (kind, className, module, name, path)
    (self.settings, self.description, self.slots) = (settings, description, slots)
    (self.parts, self.network, self.storage) = (parts, network, storage)
    isTrainable = settings["trainable"]?.bool ?? true
  }

  var id: ObjectIdentifier { ObjectIdentifier(self) }
  /// This and all it is made of, each once, outer ones first. Walks of the tree that visited what several models hold
  /// once for each would never end in a file made for that.
  var all: [KerasEntry] {
    var visited: Set<ObjectIdentifier> = []
    var result: [KerasEntry] = []
    func walk(_ entry: KerasEntry) {
      guard visited.insert(entry.id).inserted else { return }
      result.append(entry)
      for inner in entry.inner { walk(inner) }
    }
    walk(self)
    return result
  }

  /// What it is made of.
  var inner: [KerasEntry] { parts.map(\.entry) + (network?.entries ?? []) }

  var isInput: Bool { kind == .layer && className == "InputLayer" }
}

/// The layers of a Sequential or Functional and how they are called.
struct KerasNetwork: Sendable {
  let isSequential: Bool
  /// In the file's order.
  let entries: [KerasEntry]
  /// By entry: its calls; none for a Sequential, which calls its layers in order.
  let nodes: [[Node]]
  /// Nodes that the outputs need, each behind those it needs.
  let order: [NodeID]
  /// References to input layers, and to what it returns, with lists and dictionaries as they are nested.
  let inputs: ConfiguredOperand
  let outputs: ConfiguredOperand

  /// One call in the configuration.
  struct Node: Sendable {
    let arguments: [ConfiguredOperand]
    let keywords: [(name: String, value: ConfiguredOperand)]
  }

  struct NodeID: Hashable, Sendable {
    let entry: Int
    let node: Int
  }
}

/// What the configuration says that a call is given.
indirect enum ConfiguredOperand: Sendable {
  case tensor(Reference)
  case list([ConfiguredOperand])
  case dictionary([(name: String, value: ConfiguredOperand)])
  case literal(JSONElement)

  struct Reference: Sendable {
    /// Index of the entry within its network.
    let entry: Int
    /// Which of the entry's calls, counted from 0.
    let node: Int
    let tensor: Int
    /// The shape that stands beside it, where the dialect has one.
    let shape: JSONElement?
    /// Where the number of the call is written.
    let nodePlace: JSONElement
  }

  /// All tensors, in Keras's order: dictionaries by name.
  var references: [Reference] {
    switch self {
    case .tensor(let reference): [reference]
    case .list(let items): items.flatMap(\.references)
    case .dictionary(let items): items.sorted { $0.name < $1.name }.flatMap(\.value.references)
    case .literal: []
    }
  }

  var holdsTensors: Bool { !references.isEmpty }
}
