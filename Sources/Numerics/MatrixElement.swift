/// The precisions in which matrices are multiplied and decomposed, and the routines of BLAS and LAPACK that do so.
package protocol MatrixElement: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  typealias Flag = UnsafePointer<CChar>?
  typealias Size = UnsafePointer<CInt>?
  typealias Sizes = UnsafeMutablePointer<CInt>?
  typealias Elements = UnsafePointer<Self>?
  typealias Written = UnsafeMutablePointer<Self>?

  typealias Product = (
    _ transA: Flag, _ transB: Flag, _ m: Size, _ n: Size, _ k: Size, _ alpha: Elements, _ a: Elements, _ lda: Size,
    _ b: Elements, _ ldb: Size, _ beta: Elements, _ c: Written, _ ldc: Size
  ) -> Void

  typealias SymmetricProduct = (
    _ uplo: Flag, _ trans: Flag, _ n: Size, _ k: Size, _ alpha: Elements, _ a: Elements, _ lda: Size, _ beta: Elements,
    _ c: Written, _ ldc: Size
  ) -> Void

  typealias Reduction = (
    _ uplo: Flag, _ n: Size, _ a: Written, _ lda: Size, _ d: Written, _ e: Written, _ tau: Written, _ work: Written,
    _ lwork: Size, _ info: Sizes
  ) -> Void

  typealias TridiagonalSolver = (
    _ compz: Flag, _ n: Size, _ d: Written, _ e: Written, _ z: Written, _ ldz: Size, _ work: Written, _ lwork: Size,
    _ iwork: Sizes, _ liwork: Size, _ info: Sizes
  ) -> Void

  typealias ReflectorProduct = (
    _ side: Flag, _ uplo: Flag, _ trans: Flag, _ m: Size, _ n: Size, _ a: Elements, _ lda: Size, _ tau: Elements,
    _ c: Written, _ ldc: Size, _ work: Written, _ lwork: Size, _ info: Sizes
  ) -> Void

  static func gemm(of algebra: LinearAlgebra) -> Product
  static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct
  static func sytrd(of algebra: LinearAlgebra) -> Reduction
  static func stedc(of algebra: LinearAlgebra) -> TridiagonalSolver
  static func ormtr(of algebra: LinearAlgebra) -> ReflectorProduct

  /// Magnitudes whose squares are numbers, however many are added up.
  static var safeMagnitudes: ClosedRange<Self> { get }
}

extension Double: MatrixElement {
  package static func gemm(of algebra: LinearAlgebra) -> Product { algebra.functions.pointee.dgemm }
  package static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct { algebra.functions.pointee.dsyrk }
  package static func sytrd(of algebra: LinearAlgebra) -> Reduction { algebra.functions.pointee.dsytrd }
  package static func stedc(of algebra: LinearAlgebra) -> TridiagonalSolver { algebra.functions.pointee.dstedc }
  package static func ormtr(of algebra: LinearAlgebra) -> ReflectorProduct { algebra.functions.pointee.dormtr }
  package static var safeMagnitudes: ClosedRange<Double> { 0x1p-400...0x1p400 }
}

extension Float: MatrixElement {
  package static func gemm(of algebra: LinearAlgebra) -> Product { algebra.functions.pointee.sgemm }
  package static func syrk(of algebra: LinearAlgebra) -> SymmetricProduct { algebra.functions.pointee.ssyrk }
  package static func sytrd(of algebra: LinearAlgebra) -> Reduction { algebra.functions.pointee.ssytrd }
  package static func stedc(of algebra: LinearAlgebra) -> TridiagonalSolver { algebra.functions.pointee.sstedc }
  package static func ormtr(of algebra: LinearAlgebra) -> ReflectorProduct { algebra.functions.pointee.sormtr }
  package static var safeMagnitudes: ClosedRange<Float> { 0x1p-40...0x1p40 }
}
