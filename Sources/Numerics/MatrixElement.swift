/// The precisions in which matrices are multiplied, for what is said once for both.
package protocol MatrixElement: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  /// `LinearAlgebra.multiply`.
  static func multiply(
    _ algebra: LinearAlgebra, _ a: UnsafePointer<Self>, _ aOperand: LinearAlgebra.Operand, _ b: UnsafePointer<Self>,
    _ bOperand: LinearAlgebra.Operand, rows: Int, columns: Int, depth: Int, strides: LinearAlgebra.Strides,
    to c: UnsafeMutablePointer<Self>)

  /// `LinearAlgebra.addGram`.
  static func addGram(
    _ algebra: LinearAlgebra, of vectors: UnsafePointer<Self>, count: Int, length: Int, layout: LinearAlgebra.Layout,
    strides: (vectors: Int, sum: Int), to sum: UnsafeMutablePointer<Self>)
}

extension Double: MatrixElement {
  package static func multiply(
    _ algebra: LinearAlgebra, _ a: UnsafePointer<Double>, _ aOperand: LinearAlgebra.Operand,
    _ b: UnsafePointer<Double>, _ bOperand: LinearAlgebra.Operand, rows: Int, columns: Int, depth: Int,
    strides: LinearAlgebra.Strides, to c: UnsafeMutablePointer<Double>
  ) {
    algebra.multiply(a, aOperand, b, bOperand, rows: rows, columns: columns, depth: depth, strides: strides, to: c)
  }

  package static func addGram(
    _ algebra: LinearAlgebra, of vectors: UnsafePointer<Double>, count: Int, length: Int,
    layout: LinearAlgebra.Layout, strides: (vectors: Int, sum: Int), to sum: UnsafeMutablePointer<Double>
  ) {
    algebra.addGram(of: vectors, count: count, length: length, layout: layout, strides: strides, to: sum)
  }
}

extension Float: MatrixElement {
  package static func multiply(
    _ algebra: LinearAlgebra, _ a: UnsafePointer<Float>, _ aOperand: LinearAlgebra.Operand,
    _ b: UnsafePointer<Float>, _ bOperand: LinearAlgebra.Operand, rows: Int, columns: Int, depth: Int,
    strides: LinearAlgebra.Strides, to c: UnsafeMutablePointer<Float>
  ) {
    algebra.multiply(a, aOperand, b, bOperand, rows: rows, columns: columns, depth: depth, strides: strides, to: c)
  }

  package static func addGram(
    _ algebra: LinearAlgebra, of vectors: UnsafePointer<Float>, count: Int, length: Int,
    layout: LinearAlgebra.Layout, strides: (vectors: Int, sum: Int), to sum: UnsafeMutablePointer<Float>
  ) {
    algebra.addGram(of: vectors, count: count, length: length, layout: layout, strides: strides, to: sum)
  }
}
