import ModelGraph

/// The element type of an attribute or dataset as the file has it, enough of it to write it back the same: what
/// `espalier-hdf5` tells apart (its types.h). All numbers are little-endian.
package struct HDF5Type: Sendable, Hashable {
  /// The raw values are those of the worker's protocol.
  package enum Kind: UInt8, Sendable {
    case integer = 1
    case float = 2
    /// NumPy's bool as h5py stores it: an enumeration on one byte.
    case bool = 3
    /// Bytes that only their writer understands: how h5py stores bfloat16.
    case opaque = 4
    case fixedString = 5
    case variableString = 6
  }

  /// What follows a string that is shorter than its room. The raw values are HDF5's.
  package enum Padding: UInt8, Sendable {
    case nullTerminated = 0
    case nulls = 1
    case spaces = 2
  }

  package let kind: Kind
  /// Bytes of an element; 0 for strings of variable length.
  package let size: Int
  package let isSigned: Bool
  package let padding: Padding
  /// Whether strings are marked as UTF-8; otherwise they are marked as ASCII, which Keras writes whatever they hold.
  package let isUTF8: Bool
  /// The name that an opaque type bears.
  package let tag: String

  init(
    _ kind: Kind, size: Int = 0, isSigned: Bool = false, padding: Padding = .nullTerminated, isUTF8: Bool = false,
    tag: String = ""
  ) {
    (self.kind, self.size, self.isSigned) = (kind, size, isSigned)
    (self.padding, self.isUTF8, self.tag) = (padding, isUTF8, tag)
  }

  /// h5py's types for `str`, `bytes`, and an array of NumPy's `S`.
  package static let text = HDF5Type(.variableString, isUTF8: true)
  package static let byteText = HDF5Type(.variableString)
  package static func bytes(_ count: Int) -> HDF5Type { HDF5Type(.fixedString, size: count, padding: .nulls) }

  package var isString: Bool { kind == .fixedString || kind == .variableString }

  /// nil where the type alone does not say what the elements are.
  var dtype: DType? {
    switch (kind, size, isSigned) {
    case (.float, 2, _): .float16
    case (.float, 4, _): .float32
    case (.float, 8, _): .float64
    case (.integer, 1, true): .int8
    case (.integer, 1, false): .uint8
    case (.integer, 2, true): .int16
    case (.integer, 2, false): .uint16
    case (.integer, 4, true): .int32
    case (.integer, 4, false): .uint32
    case (.integer, 8, true): .int64
    case (.integer, 8, false): .uint64
    case (.bool, 1, _): .bool
    default: nil
    }
  }

  /// The type that h5py and Keras store `dtype` as; nil if they have none for it.
  init?(_ dtype: DType) {
    switch dtype {
    case .float16: self.init(.float, size: 2)
    case .float32: self.init(.float, size: 4)
    case .float64: self.init(.float, size: 8)
    case .int8: self.init(.integer, size: 1, isSigned: true)
    case .uint8: self.init(.integer, size: 1)
    case .int16: self.init(.integer, size: 2, isSigned: true)
    case .uint16: self.init(.integer, size: 2)
    case .int32: self.init(.integer, size: 4, isSigned: true)
    case .uint32: self.init(.integer, size: 4)
    case .int64: self.init(.integer, size: 8, isSigned: true)
    case .uint64: self.init(.integer, size: 8)
    case .bool: self.init(.bool, size: 1)
    case .bfloat16: self.init(.opaque, size: 2)
    default: return nil
    }
  }
}
