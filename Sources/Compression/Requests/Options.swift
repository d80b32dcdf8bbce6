import ModelGraph

/// The options of pruning, with the defaults of the field's public client. Names on the wire are the snake_case forms.
package struct PruningOptions: Sendable, Hashable {
  /// How the normalized scores of the members of a coupled group combine.
  package enum Policy: String, Sendable, CaseIterable {
    case sum, average
    /// The members are not combined: the criterion measures what they make together.
    case backward
  }

  /// How the scores of one layer are made comparable with another's.
  package enum LayerNorm: String, Sendable, CaseIterable {
    case none
    case standardScore = "standard_score"
    case tssNorm = "tss_norm"
    case linearScaling = "linear_scaling"
    case softmaxNorm = "softmax_norm"
  }

  /// How blocks that must lose equally many channels (groups of a convolution, heads) choose them.
  package enum GroupPolicy: String, Sendable, CaseIterable { case sum, average, count, none }

  package enum StepOp: String, Sendable, CaseIterable {
    case none
    case round
    case roundUp = "round_up"
    case roundDown = "round_down"
  }

  /// What a recommendation ratio means: a share of all channels, spent where they matter least, or of each layer.
  package enum Scope: String, Sendable, CaseIterable { case global, layer }

  /// What is ranked across layers: the LAMP-normalized score, that of a step divided by the channels it removes, or the
  /// combined score itself.
  package enum Allocation: String, Sendable, CaseIterable {
    case lamp
    case lampPerChannel = "lamp_per_channel"
    case score
  }

  /// Which factor of a split axis (768 read as 12 x 64) is pruned: the inner one (-1, 1) or whole blocks (-2, 0).
  package enum ReshapeChannelAxis: Int, Sendable, CaseIterable {
    case innerLast = -1
    case inner = 1
    case outerLast = -2
    case outer = 0
    package var prunesBlocks: Bool { self == .outerLast || self == .outer }
  }

  package var policy = Policy.average
  package var layerNorm = LayerNorm.standardScore
  package var groupPolicy = GroupPolicy.average
  package var reshapeChannelAxis = ReshapeChannelAxis.innerLast
  /// Kept channel counts become multiples of it; at least 1.
  package var stepSize = 2
  package var stepOp = StepOp.round
  /// No layer is recommended to keep fewer channels.
  package var minNumOfValue = 8
  /// Remove the highest scores instead of the lowest.
  package var reverse = false
  package var scope = Scope.global
  package var allocation = Allocation.lamp
  /// No layer loses more than this share; 1 = no limit.
  package var maxLayerRatio = 1.0
  /// Layer names or globs (`*`, `?`); nil = all.
  package var include: [String]?
  package var exclude: [String] = []
  /// Leave alone what could be removed only approximately: channels that a normalization or a mean runs across.
  package var exactOnly = false
  /// The number of the first channel in PR_ID's values: 0 or 1.
  package var indexBase = 0
  /// Another number, other scores of PR_RANDOM.
  package var seed = 0
  /// How many singular vectors of the attention scores PR_SNP looks at.
  package var snpGamma = AttentionPairs.Components.energy(0.9)

  package init() {}

  /// The defaults of a method: costs that are measured are compared as they are.
  package init(defaultsOf method: CompressionMethod) {
    guard method == .damage else { return }
    (policy, layerNorm, allocation) = (.sum, .none, .score)
  }

  var couplingOptions: CouplingOptions {
    CouplingOptions(prunesBlocks: reshapeChannelAxis.prunesBlocks, exactOnly: exactOnly)
  }
}

package enum CompressionMethod: String, Sendable, CaseIterable {
  case l2 = "PR_L2"
  case geometricMedian = "PR_GM"
  case nuclearNorm = "PR_NN"
  case snp = "PR_SNP"
  case indices = "PR_ID"
  case l1 = "PR_L1"
  case batchNormL2 = "PR_BN_L2"
  case groupL2 = "PR_GROUP_L2"
  case random = "PR_RANDOM"
  case damage = "PR_REC"
  case tucker = "FD_TK"
  case svd = "FD_SVD"
  case cp = "FD_CP"

  /// The methods that remove channels.
  package static let pruning = allCases.filter { $0.decomposition == nil }

  /// Whether it scores channels, so that counts can be recommended and ratios given.
  package var isCriterion: Bool { self != .indices && decomposition == nil }

  /// How it decomposes layers; nil if it prunes.
  package var decomposition: DecompositionMethod? {
    switch self {
    case .tucker: .tucker
    case .svd: .svd
    case .cp: .cp
    default: nil
    }
  }

  /// Whether it may look at what the model computes on samples.
  package var measuresFeatureMaps: Bool { self == .nuclearNorm || self == .snp || self == .damage }
}

package enum RecommendationMethod: String, Sendable, CaseIterable {
  case slamp = "SLAMP"
  case vbmf = "VBMF"
}
