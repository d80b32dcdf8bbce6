import Compression
import Foundation
import ModelGraph
import TestSupport

import Formats

func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

/// A file made by make_fixtures.py.
func fixture(_ name: String) -> String {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Fixtures/" + name
}

func open(_ path: String) throws -> any ModelDocument { try ModelFormats.open(path: path, work: Work()) }

/// Reads a model from bytes.
func read(_ bytes: [UInt8]) throws -> Graph {
  let scratch = try Scratch()
  return try open(try scratch.write(bytes, "model.onnx")).graph
}

/// The failure that `body` ends in, nil if in none.
func failure(_ body: () throws -> Void) throws -> Failure? {
  do { try body() } catch let failure as Failure { return failure }
  return nil
}

extension Graph {
  func id(_ name: String) -> ValueID? { values.firstIndex { $0.name == name }.map(ValueID.init) }
  func nodeID(_ name: String) -> NodeID? { nodes.firstIndex { $0.name == name }.map(NodeID.init) }
  func value(_ name: String) -> Value? { values.first { $0.name == name } }
  func node(_ name: String) -> Node? { nodes.first { $0.name == name } }
}

extension Tensor {
  /// The elements as numbers of `type`.
  func elements<T: BitwiseCopyable>(_ type: T.Type) -> [T] {
    (0..<(bytes.count / MemoryLayout<T>.size)).map {
      bytes.buffer.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)
    }
  }
}
