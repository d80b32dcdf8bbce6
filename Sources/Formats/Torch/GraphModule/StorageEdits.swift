import ModelGraph
import Numerics

/// What becomes of the storages of a GraphModule's archive when parameters are cut, get other contents, or come and go.
///
/// Invariant: a changed tensor has a storage of its own, row-major and of its exact size; it keeps its storage's key if
/// nothing else is in that storage, and gets a new one otherwise, so that whatever shares the old storage keeps it as
/// it was. Tied parameters are one tensor before and after.
struct StorageEdits {
  typealias View = TorchParameter.StorageView

  /// What a storage holds from now on.
  struct Contents {
    let bytes: TensorBytes
    let gather: Gather?
    var count: Int { gather?.outputBytes ?? bytes.count }
  }

  /// By the node of a rebuild call: what it becomes.
  private(set) var edits: [ObjectIdentifier: PickleNode.Edit] = [:]
  /// Storages of the file that hold something else.
  private(set) var replaced: [String: Contents] = [:]
  /// Storages that are new.
  private(set) var added: [(key: String, contents: Contents)] = []

  private let tree: ModuleTree
  private var cuts: [View: Gather] = [:]
  private var contents: [View: Tensor] = [:]
  private var nextKey: Int
  /// Where new storages live; what the file's own say.
  private let location: PickleNode

  init(_ document: GraphModuleDocument) {
    tree = document.tree
    let keys = document.archive.entries.compactMap { entry in
      entry.name.hasPrefix(document.prefix + "data/") ? Int(entry.name.dropFirst(document.prefix.count + 5)) : nil
    }
    nextKey = (keys.max() ?? -1) + 1
    let any = tree.tensors.min { $0.key < $1.key }?.value.rebuild.callArguments?[0].persistent?.tuple?[3]
    location = .string(any?.string ?? "cpu")
  }

  // MARK: What changes

  mutating func cut(_ name: String, _ gather: Gather) throws(Failure) {
    let view = try view(of: name)
    // Tied names are one tensor: the cut of one is the cut of all.
    if let known = cuts[view], known.outputShape != gather.outputShape { throw misfit("two cuts of '\(name)'") }
    cuts[view] = gather
  }

  mutating func set(_ name: String, _ tensor: Tensor) throws(Failure) { contents[try view(of: name)] = tensor }

  private func view(of name: String) throws(Failure) -> View {
    guard let tensor = tree.tensors[name] else { throw misfit("a parameter '\(name)'") }
    return tensor.parameter.storage
  }

  /// Decides where everything that changes is stored.
  /// - Parameter root: all of the pickle, which can refer to storages in other ways than by parameters.
  mutating func place(in root: PickleNode, work: Work) throws(Failure) {
    let changed = Set(cuts.keys).union(contents.keys)
    guard !changed.isEmpty else { return }
    let users = try StorageUsers(root, work: work)
    let order = changed.sorted {
      ($0.key.count, $0.key, $0.offset, $0.shape.count) < ($1.key.count, $1.key, $1.offset, $1.shape.count)
    }
    let tensors = tree.tensors.values.reduce(into: [View: Tensor]()) { $0[$1.parameter.storage] = $1.parameter.tensor }
    for view in order {
      guard let old = tensors[view] else { continue }
      let (new, shape) = try newContents(view, old)
      let key: String
      if users.views[view.key] == [view] {
        key = view.key
        replaced[key] = new
      } else {
        key = try newStorage(new)
      }
      for node in users.nodes[view] ?? [] {
        edits[node.id] = { Self.moved($0, to: key, shape: shape) }
      }
    }
  }

  private func newContents(_ view: View, _ old: Tensor) throws(Failure) -> (Contents, shape: [Int]) {
    let gather = cuts[view]
    let shape = gather?.outputShape ?? old.shape
    guard let tensor = contents[view] else { return (Contents(bytes: old.bytes, gather: gather), shape) }
    guard tensor.dtype == old.dtype else { throw misfit("other elements for a tensor of type \(old.dtype)") }
    if tensor.shape == shape { return (Contents(bytes: tensor.bytes, gather: nil), shape) }
    guard tensor.shape == old.shape else { throw misfit("contents of shape \(tensor.shape) for a tensor of \(shape)") }
    return (Contents(bytes: tensor.bytes, gather: gather), shape)
  }

  private mutating func newStorage(_ contents: Contents) throws(Failure) -> String {
    let key = String(nextKey)
    nextKey += 1
    added.append((key, contents))
    return key
  }

  // MARK: Nodes

  /// A parameter that was not there before.
  /// - Parameter pattern: the node of a parameter that it is to be like: trained or not, stored where.
  mutating func newParameter(_ tensor: Tensor, like pattern: PickleNode) throws(Failure) -> PickleNode {
    let key = try newStorage(Contents(bytes: tensor.bytes, gather: nil))
    guard let className = TorchElements.storageName(tensor.dtype) else {
      throw misfit("a new parameter of type \(tensor.dtype)")
    }
    let storage = PickleNode.persistent(
      .tuple([
        .string("storage"), .global("torch", className), .string(key), location, .int(tensor.elementCount),
      ]))
    let rebuilt = PickleNode.reduce(
      .global("torch._utils", "_rebuild_tensor_v2"),
      [
        storage, .int(0), .tuple(tensor.shape), .tuple(View.rowMajorStrides(tensor.shape)), .bool(false),
        .orderedDictionary(),
      ])
    let isTrained = pattern.callArguments.flatMap { $0.count > 1 ? $0[1].bool : nil } ?? true
    return .reduce(
      .global("torch._utils", "_rebuild_parameter"), [rebuilt, .bool(isTrained), .orderedDictionary()])
  }

  /// The same rebuild call for a dense tensor in another storage.
  private static func moved(_ node: PickleNode, to key: String, shape: [Int]) -> PickleNode {
    guard var call = node.call, var arguments = call.arguments.tuple, arguments.count >= 6,
      var storage = arguments[0].persistent?.tuple, storage.count == 5
    else { return node }
    let isUntyped: Bool
    if case .global("torch.storage", "UntypedStorage") = storage[1].kind { isUntyped = true } else { isUntyped = false }
    let width = isUntyped && arguments.count > 6 ? TorchElements.dtype(arguments[6])?.byteWidth ?? 1 : 1
    storage[2] = .string(key)
    storage[4] = .int(shape.reduce(width, *))
    arguments[0] = .persistent(.tuple(storage))
    arguments[1] = .int(0)
    arguments[2] = .tuple(shape)
    arguments[3] = .tuple(View.rowMajorStrides(shape))
    call.arguments = .tuple(arguments)
    return PickleNode(.call(call))
  }

  private func misfit(_ what: String) -> Failure {
    Failure(.certificateFailed, "the edits ask for \(what), which does not fit the model")
  }
}

/// Who refers to each storage of a pickle.
struct StorageUsers {
  /// By key: the views of it; one with a negative offset stands for whatever else refers to it.
  private(set) var views: [String: Set<TorchParameter.StorageView>] = [:]
  /// The rebuild calls of each view.
  private(set) var nodes: [TorchParameter.StorageView: [PickleNode]] = [:]

  init(_ root: PickleNode, work: Work) throws(Failure) {
    var seen = PickleNodeSet()
    _ = seen.insert(root)
    var stack = [root]
    var claimed = PickleNodeSet()
    var storages: [(node: PickleNode, key: String)] = []
    var count = 0
    while let node = stack.popLast() {
      count += 1
      if count % 4096 == 0 { try work.checkCancellation() }
      if TensorStorage.isTensor(node), let rebuilt = try? RebuiltTensor(node, name: ""), rebuilt.node === node {
        views[rebuilt.view.key, default: []].insert(rebuilt.view)
        nodes[rebuilt.view, default: []].append(node)
        if let storage = node.callArguments?.first { _ = claimed.insert(storage) }
      } else if let storage = node.persistent?.tuple, storage.count == 5, let key = storage[2].string {
        storages.append((node, key))
      }
      node.forEachChild { if !$0.isLeaf, seen.insert($0) { stack.append($0) } }
    }
    for (node, key) in storages where !claimed.contains(node) {
      views[key, default: []].insert(.init(key: key, offset: -1, shape: [], strides: []))
    }
  }

  var keys: Set<String> { Set(views.keys) }
}
