/// The precisions in which matrices are multiplied, and the routines of BLAS that do so.
package protocol MatrixElement: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  typealias Product = (
    _ transA: UnsafePointer<CChar>?, _ transB: UnsafePointer<CChar>?, _ m: UnsafePointer<CInt>?,
    _ n: UnsafePointer<CInt>?, _ k: UnsafePointer<CInt>?, _ alpha: UnsafePointer<Self>?, _ a: UnsafePointer<Self>?,
    _ lda: UnsafePointer<CInt>?, _ b: UnsafePointer<Self>?, _ ldb: UnsafePointer<CInt>?, _ beta: UnsafePointer<Self>?,
    _ c: UnsafeMutablePointer<Self>?, _ ldc: UnsafePointer<CInt>?
  ) -> Void

  typealias SymmetricProduct = (
    _ uplo: UnsafePointer<CChar>?, _ trans: UnsafePointer<CChar>?, _ n: UnsafePointer<CInt>?,
    _ k: UnsafePointer<CInt>?, _ alpha: UnsafePointer<Self>?, _ a: UnsafePointer<Self>?, _ lda: UnsafePointer<CInt>?,
    _ beta: UnsafePointer<Self>?, _ c: UnsafeMutablePointer<Self>?, _ ldc: UnsafePointer<CInt>?
  ) -> Void

  static func gemm(of algebra: LinearAlgebra) -> Product
  static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct
}

extension Double: MatrixElement {
  package static func gemm(of algebra: LinearAlgebra) -> Product { algebra.functions.pointee.dgemm }
  package static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct { algebra.functions.pointee.dsyrk }
}

extension Float: MatrixElement {
  package static func gemm(of algebra: LinearAlgebra) -> Product { algebra.functions.pointee.sgemm }
  package static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct { algebra.functions.pointee.ssyrk }
}
