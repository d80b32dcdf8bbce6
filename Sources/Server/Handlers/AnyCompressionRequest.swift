import Compression
import JSONRPC
import ModelGraph
import Runtime

/// What `compress` and `recommend` are asked for: channels to remove, layers to decompose, or a size and nothing more.
enum AnyCompressionRequest: Sendable {
  case pruning(CompressionRequest)
  /// And what to tell of its options.
  case decomposition(DecompositionRequest, warning: String?)
  case automatic(AutomaticRequest)
  case listed(ListedRequest)

  /// Of `compress`: a recommendation to carry out, or the user's own `layers`; without a method, a target, or `layers`
  /// each with its own.
  init(_ method: CompressionMethod?, _ params: Params) throws(ResponseError) {
    guard let method else {
      if let listed = try params.listedRequest() {
        self = .listed(listed)
      } else {
        self = .automatic(try params.automaticRequest())
      }
      return
    }
    let layers = try params.layerSettings(method)
    if layers != nil {
      for name in ["recommendation_method", "recommendation_ratio", "target"] where params.value(name) != nil {
        throw .invalidParams(params.pointer(name), "give either 'layers' or '\(name)', not both")
      }
    }
    if let decomposition = method.decomposition {
      let choice: DecompositionRequest.Choice =
        if let layers { .layers(layers) } else { .recommended(try params.rankGoal()) }
      self = .decomposition(
        DecompositionRequest(method: decomposition, choice: choice, options: try DecompositionOptions(params)),
        warning: try DecompositionOptions.warning(params))
    } else {
      let choice: CompressionRequest.Choice
      if let layers {
        choice = .layers(layers)
      } else {
        let (recommendation, goal) = try params.recommendation()
        choice = .recommended(recommendation, goal)
      }
      self = .pruning(
        CompressionRequest(method: method, choice: choice, options: try PruningOptions(params, of: method)))
    }
  }

  /// Returns once a plan is proved.
  typealias Proved = () throws(Failure) -> Void

  /// Decides, and has `body` carry it out.
  /// - Parameters:
  ///   - writesFile: whether `body` learns the file's size by writing it.
  ///   - body: publishes nothing before `proved` has returned. It may be called again: where a plan cannot be proved,
  ///     another may be.
  func plan<Outcome>(
    _ model: ModelCache.Use, dataset: WirePath?, writesFile: Bool, in server: Server, work: Work,
    carryingOut body: (_ planned: PlannedCompression, _ proved: @escaping Proved) throws(Failure) -> Outcome
  ) throws(Failure) -> (planned: PlannedCompression, outcome: Outcome) {
    switch self {
    case .pruning(var request):
      if request.method.isCriterion, request.method != .random { model.document.readAhead(work: work) }
      request.maps = try server.featureMaps(for: request.method, of: model.document, dataset: dataset, work: work)
      return try model.compressible.plan(request, measuresFile: !writesFile, work: work) {
        planned, proof throws(Failure) in
        try body(planned) { () throws(Failure) in try proof.report() }
      }
    case .decomposition(var request, let warning):
      request.maps = try server.featureMaps(of: model.document, dataset: dataset, work: work)
      let (compressible, final) = (model.compressible, request)
      var planned = try detached(work: work) { () throws(Failure) in try compressible.plan(final, work: work) }
      if let warning { planned.warnings.append(warning) }
      return (planned, try body(planned) {})
    case .automatic(let request):
      let planned = try request.plan(model, dataset: dataset, in: server, work: work)
      return (planned, try body(planned) {})
    case .listed(var request):
      try request.means.read(dataset, for: model, in: server, work: work)
      let (compressible, final) = (model.compressible, request)
      let planned = try detached(work: work) { () throws(Failure) in try compressible.plan(final, work: work) }
      return (planned, try body(planned) {})
    }
  }
}

extension JointMeans {
  fileprivate mutating func read(
    _ dataset: WirePath?, for model: ModelCache.Use, in server: Server, work: Work
  ) throws(Failure) {
    guard let dataset else { return }
    data = Data(
      maps: try DatasetFeatureMaps(dataset, for: model.document, in: server, work: work),
      runner: try DatasetNetworkRunner(dataset, for: model.document, in: server, work: work))
  }
}

extension AutomaticRequest {
  /// Decides; what is decided is proved.
  func plan(
    _ model: ModelCache.Use, dataset: WirePath?, in server: Server, work: Work
  ) throws(Failure) -> PlannedCompression {
    var request = self
    try request.means.read(dataset, for: model, in: server, work: work)
    let (compressible, final) = (model.compressible, request)
    return try detached(work: work) { () throws(Failure) in try compressible.plan(final, work: work) }
  }
}

extension Params {
  /// Of a request that names no method.
  func automaticRequest() throws(ResponseError) -> AutomaticRequest {
    for name in ["layers", "recommendation_method", "recommendation_ratio"] where value(name) != nil {
      throw .invalidParams(
        pointer("compression_method"),
        "'compression_method' is required with '\(name)'; only a 'target' on macs, parameters or size_bytes goes without"
      )
    }
    let goal = try sizeTarget()
    guard case .size(let measure, let share)? = goal else {
      throw .invalidParams(
        pointer("compression_method"),
        "'compression_method' is required, or a 'target' on macs, parameters or size_bytes, for which methods are chosen layer by layer"
      )
    }
    return AutomaticRequest(
      measure: measure, share: share,
      means: try jointMeans(JointMeans.criterion(hasData: try datasetPath() != nil)))
  }

  /// Of a request that names methods entry by entry; nil without `layers`.
  fileprivate func listedRequest() throws(ResponseError) -> ListedRequest? {
    guard let layers = try layerSettings(nil) else { return nil }
    for name in ["recommendation_method", "recommendation_ratio", "target"] where value(name) != nil {
      throw .invalidParams(pointer(name), "give either 'layers' or '\(name)', not both")
    }
    let criteria = Set(layers.compactMap { $0.choice?.method }.filter(\.isCriterion))
    guard criteria.count <= 1 else {
      let named = criteria.map(\.rawValue).sorted().joined(separator: ", ")
      throw .invalidParams(
        pointer("layers"), "channels are ranked by one method: entries name \(named); give them the same one")
    }
    let usual = JointMeans.criterion(hasData: try datasetPath() != nil)
    return ListedRequest(layers: layers, means: try jointMeans(criteria.first ?? usual))
  }

  private func jointMeans(_ criterion: CompressionMethod) throws(ResponseError) -> JointMeans {
    JointMeans(
      criterion: criterion, pruning: try PruningOptions(self, of: criterion),
      decomposition: try DecompositionOptions(self),
      refits: try choice("reconstruct", of: ReconstructionMode.self) == .leastSquares)
  }

  /// - Throws: where `method` has no use for samples.
  func requireDatasetReader(_ method: CompressionMethod) throws(ResponseError) {
    guard !method.measuresFeatureMaps, method.decomposition == nil else { return }
    throw .invalidParams(
      pointer("dataset_path"),
      "'dataset_path' is read by PR_NN, PR_SNP, PR_REC and decompositions, to verify, and by reconstruct 'least_squares': leave it out, or compress with one of these"
    )
  }
}
