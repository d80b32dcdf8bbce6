import ModelGraph

// The plain values that `inspect` gives. Like all that requests take and give they know of neither JSON nor a client:
// the server writes them field by field to the wire, under their snake_case names.

package struct Inspection: Sendable {
  package var inputs: [Port]
  package var outputs: [Port]
  package var size: ModelSize
  /// Lengths assumed for symbolic dimensions while counting multiply-adds.
  package var assumedLengths: [(symbol: String, length: Int)]
  package var layers: [LayerReport]
  package var groups: [GroupReport]
}

/// A graph input or output as the file declares it.
package struct Port: Sendable, Equatable {
  package var name: String
  package var dtype: DType?
  package var shape: [Dimension]?
  package init(name: String, dtype: DType?, shape: [Dimension]?) {
    (self.name, self.dtype, self.shape) = (name, dtype, shape)
  }
}

/// A node with parameters that a user would prune or decompose.
package struct LayerReport: Sendable {
  package var name: String
  package var op: String
  /// Its weight, by the file's name.
  package var parameter: String
  /// `[in, out]`.
  package var channels: [Int]
  /// Spatial kernel, for convolutions.
  package var kernel: [Int]?
  package var groups: Int?
  package var parameters: Int
  package var macs: Int
  package var methods: [CompressionMethod]
  /// Which ranks the layer has, by method; nil if none takes it.
  package var decomposition: [RankLimits]?
  /// The coupled group of its output channels, by `GroupReport.id`.
  package var group: Int?
  /// Where its output channels are of several groups: the others.
  package var otherGroups: [Int]
  /// Why its output channels cannot be pruned, in one sentence naming the operator that decides; nil if they can.
  package var reason: String?
  /// The other layers whose output channels go with its own.
  package var coupledWith: [String]
  /// What can be removed and what goes with it, or why nothing can: one sentence.
  package var explanation: String
}

/// The ranks between which decomposing a layer loses something and gains something, as `values` has them.
package struct RankLimits: Sendable, Equatable {
  package var method: CompressionMethod
  /// At which nothing is lost.
  package var full: [Int]
  /// The largest at which multiply-adds and parameters both fall; nil if they never do.
  package var breakEven: [Int]?
}

/// Channels that can only be removed together, and the layers they run through.
package struct GroupReport: Sendable {
  package var id: Int
  /// The name under which `available_layers` lists the group.
  package var name: String
  /// Removable units.
  package var size: Int
  /// Channels of its first layer that the units stand for, and those that cannot be removed beside them.
  package var channels: Int
  package var prunable: Bool
  package var layers: [String]
  package var balance: BalanceReport?
  package var reason: String?
}

/// Channels that come in blocks which must lose equally many.
package struct BalanceReport: Sendable, Equatable {
  package var blocks: Int
  /// Units per block.
  package var width: Int
  /// Groups that must lose the same number per block.
  package var linkedWith: [Int]
}
