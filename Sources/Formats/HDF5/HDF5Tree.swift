import ModelGraph
import Numerics

/// What an HDF5 file holds: a root group with groups, datasets and their attributes. One tree serves reading and
/// writing; it is a value, so that a file can be had in another form without a change to the one that was read.
package struct HDF5Group: Sendable {
  package var attributes: HDF5Attributes
  /// In the order of their names, or of their creation where the group keeps that.
  package private(set) var members: [HDF5Member] = []
  /// Whether the file keeps the order in which members were made.
  package let keepsOrder: Bool
  private var indices: [String: Int] = [:]

  package init(attributes: HDF5Attributes = HDF5Attributes(), keepsOrder: Bool = false) {
    (self.attributes, self.keepsOrder) = (attributes, keepsOrder)
  }

  package func member(_ name: String) -> HDF5Node? { indices[name].map { members[$0].node } }

  /// Adds a member at the end, or in the place of the one of that name; nil removes it.
  package mutating func setMember(_ name: String, _ node: HDF5Node?) {
    switch (indices[name], node) {
    case (let index?, let node?): members[index] = HDF5Member(name: name, node: node)
    case (nil, let node?):
      indices[name] = members.count
      members.append(HDF5Member(name: name, node: node))
    case (let index?, nil):
      members.remove(at: index)
      indices = Dictionary(uniqueKeysWithValues: members.enumerated().map { ($0.element.name, $0.offset) })
    case (nil, nil): break
    }
  }

  // MARK: Paths

  /// What is at a path of names with `/` between them, from this group; the empty path is the group itself. Setting
  /// makes the groups on the way, in the place of datasets if there are such; setting nil removes.
  package subscript(path: String) -> HDF5Node? {
    get { node(path.split(separator: "/")[...]) }
    set { set(newValue, path.split(separator: "/")[...]) }
  }

  package func group(_ path: String) -> HDF5Group? {
    if case .group(let group)? = self[path] { group } else { nil }
  }

  package func dataset(_ path: String) -> HDF5Dataset? {
    if case .dataset(let dataset)? = self[path] { dataset } else { nil }
  }

  private func node(_ path: ArraySlice<Substring>) -> HDF5Node? {
    guard let name = path.first else { return .group(self) }
    guard let member = member(String(name)) else { return nil }
    if path.count == 1 { return member }
    if case .group(let group) = member { return group.node(path.dropFirst()) }
    return nil
  }

  private mutating func set(_ node: HDF5Node?, _ path: ArraySlice<Substring>) {
    guard let name = path.first else {
      if case .group(let group)? = node { self = group }
      return
    }
    guard path.count > 1 else { return setMember(String(name), node) }
    var group = HDF5Group(keepsOrder: keepsOrder)
    if case .group(let existing)? = member(String(name)) {
      group = existing
    } else if node == nil {
      return
    }
    group.set(node, path.dropFirst())
    setMember(String(name), .group(group))
  }

  /// Calls `body` with every dataset below and its path, in the order of members.
  package func forEachDataset<E: Error>(_ body: (_ path: String, HDF5Dataset) throws(E) -> Void) throws(E) {
    try forEachDataset(below: "", body)
  }

  private func forEachDataset<E: Error>(
    below prefix: String, _ body: (_ path: String, HDF5Dataset) throws(E) -> Void
  ) throws(E) {
    for member in members {
      switch member.node {
      case .group(let group): try group.forEachDataset(below: prefix + member.name + "/", body)
      case .dataset(let dataset): try body(prefix + member.name, dataset)
      }
    }
  }
}

package struct HDF5Member: Sendable {
  package let name: String
  package let node: HDF5Node
}

package indirect enum HDF5Node: Sendable {
  case group(HDF5Group)
  case dataset(HDF5Dataset)
}

/// A stored tensor, or what stays of one when it is written.
///
/// Invariant: `bytes` holds the elements of the tensor as it was read, of which `gather`, if there is one, makes
/// `shape`.
package struct HDF5Dataset: Sendable {
  package let type: HDF5Type
  package let dtype: DType
  package let shape: [Int]
  package let bytes: TensorBytes
  package let gather: Gather?
  package var attributes: HDF5Attributes

  /// What Keras names the elements of opaque types by.
  static let dtypeAttribute = "dtype"

  init(
    type: HDF5Type, dtype: DType, shape: [Int], bytes: TensorBytes, gather: Gather? = nil, attributes: HDF5Attributes
  ) {
    (self.type, self.dtype, self.shape) = (type, dtype, shape)
    (self.bytes, self.gather, self.attributes) = (bytes, gather, attributes)
  }

  /// A tensor as h5py stores it. bfloat16 is opaque and named in an attribute, as Keras has it.
  /// - Returns: nil for element types that h5py has no type for.
  package init?(_ tensor: Tensor, attributes: HDF5Attributes = HDF5Attributes()) {
    guard let type = HDF5Type(tensor.dtype) else { return nil }
    self.init(type: type, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.bytes, attributes: attributes)
    if tensor.dtype == .bfloat16 {
      self.attributes.set(HDF5Attribute(Self.dtypeAttribute, string: "bfloat16"))
    }
  }

  /// The same dataset with what `gather` keeps of it, which is gathered when it is written.
  /// - Precondition: `gather` was made for this shape and element size, and nothing is gathered yet.
  package func gathering(_ gather: Gather) -> HDF5Dataset {
    precondition(self.gather == nil, "a dataset is gathered once")
    return HDF5Dataset(
      type: type, dtype: dtype, shape: gather.outputShape, bytes: bytes, gather: gather, attributes: attributes)
  }

  /// The same dataset with other contents.
  /// - Returns: nil for element types that h5py has no type for.
  package func replacing(_ tensor: Tensor) -> HDF5Dataset? { HDF5Dataset(tensor, attributes: attributes) }

  /// A view of the contents.
  /// - Precondition: nothing is to be gathered.
  package var tensor: Tensor {
    precondition(gather == nil, "the tensor of a dataset that is gathered when it is written")
    return Tensor(dtype: dtype, shape: shape, bytes: bytes)
  }

  /// Bytes that it has in a file.
  var count: Int { gather?.outputBytes ?? bytes.count }
}
