import ModelGraph
import Numerics

/// The factors of one layer's weight, in the order in which its replacement applies them.
struct LayerFactors: Sendable {
  struct Part: Sendable {
    enum Kind: Sendable, Equatable {
      /// `[outputs, inputs]`.
      case matrix
      /// `[outputs, inputs, taps]`.
      case kernel
      /// `[channels, taps]` along one spatial axis, each channel for itself.
      case axis(Int)
    }
    let kind: Kind
    /// What it is called in names: "input", "core", "out", ...
    let stage: String
    let outputs: Int
    let inputs: Int
    var elements: [Double]

    var isSpatial: Bool { kind != .matrix }

    func with(_ elements: [Double]) -> Part {
      Part(kind: kind, stage: stage, outputs: outputs, inputs: inputs, elements: elements)
    }
  }

  /// The parts that `layer` has at `ranks`, without their elements: a factor that would be square and of full rank is
  /// folded into its neighbour.
  static func shapes(_ method: DecompositionMethod, ranks: [Int], of layer: DecomposableLayer) -> [Part] {
    func part(_ kind: Part.Kind, _ stage: String, _ outputs: Int, _ inputs: Int) -> Part {
      Part(kind: kind, stage: stage, outputs: outputs, inputs: inputs, elements: [])
    }
    let (inputs, outputs) = (layer.inputChannels, layer.outputChannels)
    switch method {
    case .svd: return [part(.matrix, "input", ranks[0], inputs), part(.matrix, "out", outputs, ranks[0])]
    case .tucker:
      return (ranks[0] < inputs ? [part(.matrix, "input", ranks[0], inputs)] : [])
        + [part(.kernel, "core", ranks[1], ranks[0])]
        + (ranks[1] < outputs ? [part(.matrix, "out", outputs, ranks[1])] : [])
    case .cp:
      let axes = layer.kernel.indices.filter { layer.kernel[$0] > 1 }
      return [part(.matrix, "input", ranks[0], inputs)] + axes.map { part(.axis($0), "axis\($0)", ranks[0], 1) }
        + [part(.matrix, "out", outputs, ranks[0])]
    }
  }

  let method: DecompositionMethod
  /// As `values` has them.
  let ranks: [Int]
  let parts: [Part]

  /// Whether some part has a spatial kernel, to which the layer's geometry belongs.
  var isSpatial: Bool { parts.contains(where: \.isSpatial) }

  /// The weight that the parts together apply, `[outputs, inputs, taps]`, row-major.
  /// - Parameter taps: of the layer's kernel, by axis.
  func product(kernel: [Int], _ algebra: LinearAlgebra) -> [Double] {
    let taps = kernel.reduce(1, *)
    if method == .cp { return separableProduct(kernel, algebra) }
    // Grown from the first part on: [outputs so far, inputs, taps so far].
    guard var result = parts.first?.elements, let first = parts.first else { return [] }
    var spatial = first.isSpatial ? taps : 1
    for part in parts.dropFirst() {
      if part.kind == .kernel {
        // [outputs, middle, taps] with [middle, inputs].
        let rows = part.elements.swappingInnerAxes(part.outputs, part.inputs, taps)
        let columns = result.transposed(rows: part.inputs, columns: first.inputs)
        let product = algebra.product(
          rows, columns, rows: part.outputs * taps, columns: first.inputs, length: part.inputs)
        result = product.swappingInnerAxes(part.outputs, taps, first.inputs)
        spatial = taps
      } else {
        let width = first.inputs * spatial
        let columns = result.transposed(rows: part.inputs, columns: width)
        result = algebra.product(part.elements, columns, rows: part.outputs, columns: width, length: part.inputs)
      }
    }
    return result
  }

  /// Of CP: out `[O, R]`, in `[R, I]`, and a vector of taps per component and axis.
  private func separableProduct(_ kernel: [Int], _ algebra: LinearAlgebra) -> [Double] {
    guard let first = parts.first, let last = parts.last else { return [] }
    let (rank, inputs) = (ranks[0], first.inputs)
    let taps = kernel.reduce(1, *)
    // Row (input, tap), column component.
    var columns = [Double](repeating: 0, count: inputs * taps * rank)
    for tap in 0..<taps {
      var weights = [Double](repeating: 1, count: rank)
      var rest = tap
      for axis in kernel.indices.reversed() {
        let index = rest % kernel[axis]
        rest /= kernel[axis]
        for part in parts where part.kind == .axis(axis) {
          for r in 0..<rank { weights[r] *= part.elements[r * kernel[axis] + index] }
        }
      }
      for input in 0..<inputs {
        for r in 0..<rank { columns[(input * taps + tap) * rank + r] = weights[r] * first.elements[r * inputs + input] }
      }
    }
    return algebra.product(last.elements, columns, rows: last.outputs, columns: inputs * taps, length: rank)
  }

  /// The factors as they are stored.
  func rounded(to dtype: DType) -> LayerFactors {
    LayerFactors(
      method: method, ranks: ranks,
      parts: parts.map { part in
        var part = part
        part.elements = part.elements.map { $0.rounded(to: dtype) }
        return part
      })
  }
}

extension Double {
  func rounded(to dtype: DType) -> Double {
    switch dtype {
    case .float64: self
    case .float16: Double(Float(Float16(self)))
    case .bfloat16: Double(Float(bitPattern: UInt32(Float(self).bfloat16Bits) << 16))
    default: Double(Float(self))
    }
  }
}

extension Float {
  /// The nearest bfloat16, ties to even, as the format's users round.
  var bfloat16Bits: UInt16 {
    UInt16(truncatingIfNeeded: (bitPattern &+ 0x7fff &+ ((bitPattern >> 16) & 1)) >> 16)
  }
}

extension LinearAlgebra {
  /// The scalar products of the rows of two matrices, `[rows, length]` and `[columns, length]`, as `[rows, columns]`.
  fileprivate func product(_ a: [Double], _ b: [Double], rows: Int, columns: Int, length: Int) -> [Double] {
    var result = [Double](repeating: 0, count: rows * columns)
    addProducts(of: a, rows: rows, with: b, columns: columns, length: length, layout: .vectors, to: &result)
    return result
  }
}

extension [Double] {
  /// `[a, b, c]` as `[a, c, b]`.
  fileprivate func swappingInnerAxes(_ a: Int, _ b: Int, _ c: Int) -> [Double] {
    var result = [Double](repeating: 0, count: count)
    for i in 0..<a {
      for j in 0..<b { for k in 0..<c { result[(i * c + k) * b + j] = self[(i * b + j) * c + k] } }
    }
    return result
  }
}
