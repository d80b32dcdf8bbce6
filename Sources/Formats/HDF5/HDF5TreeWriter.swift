import ModelGraph

/// The words of the stream that trees are said in between the daemon and `espalier-hdf5` (its commands.h).
enum HDF5Stream {
  static let group: UInt8 = 1
  static let dataset: UInt8 = 2
  static let ordersLinks: UInt8 = 1
  static let ordersAttributes: UInt8 = 2
  static let nullSpace: UInt8 = 255

  enum Place {
    static let nowhere: UInt8 = 0
    static let file: UInt8 = 1
    static let product: UInt8 = 2
  }
}

/// A tree as the stream that `espalier-hdf5` makes a file of; the contents of datasets are not part of it.
struct HDF5TreeWriter {
  /// First of all whether the file needs a newer format than the oldest: an attribute's value and all that describes it
  /// go into a message of up to 64 kB there.
  private(set) var stream: [UInt8] = [0]
  /// In the order of the stream.
  private(set) var datasets: [HDF5Dataset] = []

  private static let largestValue = 65_000

  init(_ root: HDF5Group) { put(root) }

  private mutating func put<T: FixedWidthInteger>(_ value: T) { stream.append(littleEndian: value) }

  private mutating func put(_ text: String) {
    put(UInt32(text.utf8.count))
    stream += text.utf8
  }

  private mutating func put(_ group: HDF5Group) {
    put(HDF5Stream.group)
    put(
      (group.keepsOrder ? HDF5Stream.ordersLinks : 0)
        | (group.attributes.keepsOrder ? HDF5Stream.ordersAttributes : 0))
    put(group.attributes)
    put(UInt32(group.members.count))
    for member in group.members {
      put(member.name)
      switch member.node {
      case .group(let group): put(group)
      case .dataset(let dataset): put(dataset)
      }
    }
  }

  private mutating func put(_ dataset: HDF5Dataset) {
    put(HDF5Stream.dataset)
    put(dataset.attributes.keepsOrder ? HDF5Stream.ordersAttributes : 0)
    put(dataset.type)
    put(dataset.shape)
    put(dataset.attributes)
    datasets.append(dataset)
  }

  private mutating func put(_ type: HDF5Type) {
    put(type.kind.rawValue)
    put(UInt32(type.size))
    put(UInt8(type.isSigned ? 1 : 0))
    put(type.padding.rawValue)
    put(UInt8(type.isUTF8 ? 1 : 0))
    put(type.tag)
  }

  private mutating func put(_ shape: [Int]?) {
    put(shape.map { UInt8($0.count) } ?? HDF5Stream.nullSpace)
    for length in shape ?? [] { put(UInt64(length)) }
  }

  private mutating func put(_ attributes: HDF5Attributes) {
    put(UInt32(attributes.all.count))
    for attribute in attributes.all {
      put(attribute.name)
      put(attribute.type)
      put(attribute.shape)
      switch attribute.value {
      case .bytes(let bytes):
        put(UInt32(bytes.count))
        stream += bytes
        if bytes.count > Self.largestValue { stream[0] = 1 }
      case .texts(let texts):
        put(UInt32(texts.reduce(0) { $0 + 4 + $1.utf8.count }))
        texts.forEach { put($0) }
        // Each is a reference of 16 bytes.
        if texts.count * 16 > Self.largestValue { stream[0] = 1 }
      }
    }
  }
}
