import Compression
import JSONRPC

extension Params {
  /// The members `removed` and `copied`, as a reply of `compress` has them.
  func removalListing() throws(ResponseError) -> RemovalListing {
    let removed = try require("removed", objects("removed")).map { entry throws(ResponseError) in
      try entry.removedSlices()
    }
    let copied = try (objects("copied") ?? []).map { entry throws(ResponseError) in
      CopiedVector(
        parameter: try entry.require("parameter", entry.string("parameter")),
        node: try entry.require("node", entry.string("node")),
        input: try entry.require("input", entry.int("input", in: 0...Int.max)),
        axis: try entry.require("axis", entry.int("axis", in: 0...Int.max)),
        indices: try entry.require("indices", entry.ints("indices", atLeast: 0)))
    }
    return RemovalListing(removed: removed, copied: copied, refilled: try refilledParameters())
  }

  private func removedSlices() throws(ResponseError) -> RemovedSlices {
    let indices: RemovedSlices.Indices
    if let all = try ints("indices", atLeast: 0) {
      indices = .all(all)
    } else {
      indices = .perGroup(try require("indices", lists("indices_per_group")))
    }
    return RemovedSlices(
      parameter: try require("parameter", string("parameter")),
      axis: try require("axis", int("axis", in: 0...Int.max)), indices: indices)
  }

  private func lists(_ name: String) throws(ResponseError) -> [[Int]]? {
    guard let value = value(name) else { return nil }
    guard let lists = value.arrayValue else { throw wrong(name, "an array of arrays of integers", value) }
    return try lists.enumerated().map { index, list throws(ResponseError) in
      let numbers = list.arrayValue?.compactMap(\.intValue)
      guard let numbers, numbers.count == list.arrayValue?.count, numbers.allSatisfy({ $0 >= 0 }) else {
        throw .invalidParams("\(pointer(name))/\(index)", "expected an array of integers, at least 0")
      }
      return numbers
    }
  }
}
