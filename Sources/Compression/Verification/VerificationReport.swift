import ModelGraph

/// What running a compressed model and what it must equal has shown.
package struct VerificationReport: Sendable {
  package enum Status: String, Sendable {
    /// Equal, but for rounding, to the original with the removed channels silenced.
    case exact
    /// Not equal, for normalizations run across removed channels; equal where these see only what stays.
    case approximate
    case failed
  }

  package var status: Status
  /// From the original with the removed channels silenced.
  package var distance: OutputDistance
  /// From the twin; nil where none is needed.
  package var twin: OutputDistance?
  /// The largest relative distance that counts as rounding, and the model's own, which it is derived from.
  package var tolerance: Double
  package var noise: Double
  package var sampleCount: Int
  /// How many samples were at hand, where they come from a dataset.
  package var givenCount: Int?
  /// Why the status is not `exact`.
  package var reason: String?

  package init(
    status: Status, distance: OutputDistance, twin: OutputDistance?, tolerance: Double, noise: Double, sampleCount: Int,
    reason: String?
  ) {
    (self.status, self.distance, self.twin) = (status, distance, twin)
    (self.tolerance, self.noise, self.sampleCount, self.reason) = (tolerance, noise, sampleCount, reason)
  }

  /// Whether the model differs from itself, computed in another order, by more than anything may differ: then that its
  /// outputs differ is no sign of a fault.
  package var isChaotic: Bool {
    noise > RoundingTolerance.most && distance.mismatch == nil && twin?.mismatch == nil
  }
}

/// What counts as rounding, for one model.
///
/// Two ways of computing the same network differ by rounding, and how much this comes to at the outputs depends on the
/// network: depth, cancellation, the type it is stored in. So the compressed model is run twice, as it is written and
/// with the runtime's fusions, which sum in other orders; a multiple of what these differ by is allowed, since removing
/// channels regroups every sum while fusions regroup some.
package struct RoundingTolerance: Sendable {
  private static let multiple = 16.0
  /// A few units in the last place of float32, for networks whose two ways happen to agree.
  private static let least = 1e-5
  /// Beyond this only quantized networks go, whose rounding is a step of their own, and they get twice their noise.
  private static let ordinary = 0.02
  /// Beyond this no outputs are called equal.
  static let most = 0.2

  package let noise: Double
  package let relative: Double

  package init(noise: OutputDistance) {
    self.noise = noise.mismatch == nil ? noise.maxRelative : Self.most
    let wanted = min(Self.multiple * self.noise, max(Self.ordinary, 2 * self.noise))
    relative = min(max(Self.least, wanted), Self.most)
  }

  package func allows(_ distance: OutputDistance) -> Bool {
    distance.mismatch == nil && distance.maxRelative <= relative
  }
}
