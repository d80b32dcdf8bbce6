import ModelGraph

/// The certificate of one plan, worked out when it is first asked for: the disk can be at work on the plan's file by
/// then.
///
/// Invariant: whoever carries out a plan keeps nothing of it before `report` has returned.
package final class Proof {
  private let check: () throws(Failure) -> CertificateReport
  private var outcome: Result<CertificateReport, Failure>?

  init(_ check: @escaping () throws(Failure) -> CertificateReport) { self.check = check }

  /// - Throws: `Failure(.certificateFailed)` naming the node or value at fault, or cancelled.
  @discardableResult
  package func report() throws(Failure) -> CertificateReport {
    let result = outcome ?? Result { () throws(Failure) in try check() }
    outcome = result
    return try result.get()
  }
}
