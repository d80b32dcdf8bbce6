import Foundation
import ModelGraph
import Runtime
import TestSupport
import Testing

/// The library that the environment names; `make test` names the one in its virtual environment. Without one the tests
/// fail, for nothing of what they prove would be proved.
let loader = RuntimeLoader()

func runtime() throws -> ONNXRuntime { try loader.runtime(work: Work()) }

func session(_ model: [UInt8], _ settings: InferenceSession.Settings = .init()) throws -> InferenceSession {
  try InferenceSession(.bytes(model), settings: settings, runtime: runtime(), work: Work())
}

/// A file made by make_fixtures.py.
func fixture(_ name: String) -> String {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Fixtures/" + name
}

/// The failure that `body` ends in, nil if in none.
func failure(_ body: () throws -> Void) throws -> Failure? {
  do { try body() } catch let failure as Failure { return failure }
  return nil
}

extension Proto {
  /// A graph input with a type; lengths by number or by name.
  static func input(_ name: String, _ dtype: DType, _ shape: [ModelGraph.Dimension]) -> Proto {
    let dims = shape.map { dimension -> Proto in
      switch dimension {
      case .fixed(let length): .message(1, .int(1, length))
      case .symbol(let symbol): .message(1, .text(2, symbol))
      case .unknown: .message(1, Proto())
      }
    }
    let tensor = Proto.int(1, dtype.rawValue) + .message(2, Proto(raw: dims.flatMap(\.bytes)))
    return .message(11, .text(1, name) + .message(2, .message(1, tensor)))
  }

  static func floats(_ name: String, _ shape: [Int], _ elements: [Float]) -> Proto {
    .initializer(name, shape, raw: elements.flatMap { withUnsafeBytes(of: $0.bitPattern) { Array($0) } })
  }
}

/// Memory of the process that no file backs.
func privateBytes() throws -> Int {
  let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n")
  let line = try #require(status.first { $0.hasPrefix("RssAnon:") })
  return try #require(line.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.first) * 1024
}

extension Tensor {
  /// The elements as numbers of `type`.
  func elements<T: BitwiseCopyable>(_ type: T.Type) -> [T] {
    stride(from: 0, to: bytes.count, by: MemoryLayout<T>.size).map {
      bytes.buffer.loadUnaligned(fromByteOffset: $0, as: T.self)
    }
  }
}
