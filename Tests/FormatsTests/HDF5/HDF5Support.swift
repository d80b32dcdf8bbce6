import Formats
import ModelGraph

/// An HDF5 file made by make_hdf5_fixtures.py.
func hdf5(_ name: String, worker: HDF5Worker = HDF5Worker()) throws -> HDF5File {
  try HDF5File(MappedFile(path: fixture("HDF5/\(name).h5"), work: Work()), worker: worker, work: Work())
}

/// What make_hdf5_fixtures.py fills a tensor with.
func numbers(_ shape: [Int]) -> [Float] { (0..<shape.reduce(1, *)).map { Float($0 % 100 + shape.count) } }

extension HDF5Group {
  /// Paths of all datasets.
  var paths: [String] {
    var paths: [String] = []
    forEachDataset { path, _ in paths.append(path) }
    return paths
  }

  /// Everything below as lines of text: names in order, types, shapes, contents, attributes.
  var transcript: [String] {
    var lines = ["group ordered \(keepsOrder)"] + attributes.transcript
    for member in members {
      switch member.node {
      case .group(let group): lines += group.transcript.map { "\(member.name)/\($0)" }
      case .dataset(let dataset):
        lines.append("\(member.name): \(dataset.type) \(dataset.dtype) \(dataset.shape) \(Array(dataset.bytes.buffer))")
        lines += dataset.attributes.transcript.map { "\(member.name) \($0)" }
      }
    }
    return lines
  }
}

extension HDF5Attributes {
  var transcript: [String] {
    ["attributes ordered \(keepsOrder)"]
      + all.map { "\($0.name): \($0.type) \(String(describing: $0.shape)) \($0.value)" }
  }
}
