import ModelGraph

/// The sizes that modules of torch.nn state beside their parameters: what they must be once parameters are cut, so that
/// the module prints, checks and saves itself as one of its new size.
enum ModuleSettings {
  /// - Parameters:
  ///   - newShapes: of cut parameters, by state-dict name.
  ///   - newInputLengths: of the module's input, by axis, where they change.
  ///   - groups: of a convolution.
  /// - Returns: the settings that change.
  static func settings(
    of module: TorchModule, newShapes: [String: [Int]], newInputLengths: [Int: Int], groups: Int
  ) -> [(name: String, value: TorchArgument)] {
    func shape(_ parameter: String) -> [Int]? {
      guard case .some(.some(let name)) = module.parameters[parameter] else { return nil }
      return newShapes[name]
    }
    func holds(_ parameter: String) -> Bool {
      if case .some(.some) = module.parameters[parameter] { true } else { false }
    }
    let weight = shape("weight")
    var settings: [(String, TorchArgument)] = []
    switch module.className {
    case "Conv1d", "Conv2d", "Conv3d":
      guard let weight else { break }
      settings = [("in_channels", .int(weight[1] * groups)), ("out_channels", .int(weight[0]))]
    case "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d":
      guard let weight else { break }
      settings = [("in_channels", .int(weight[0])), ("out_channels", .int(weight[1] * groups))]
    case "Linear", "NonDynamicallyQuantizableLinear":
      guard let weight else { break }
      settings = [("in_features", .int(weight[1])), ("out_features", .int(weight[0]))]
    case "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm":
      if let length = (weight ?? shape("running_mean"))?.first { settings = [("num_features", .int(length))] }
    case "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d":
      if let length = weight?.first ?? newInputLengths[1] { settings = [("num_features", .int(length))] }
    case "GroupNorm":
      if let length = weight?.first ?? newInputLengths[1] { settings = [("num_channels", .int(length))] }
    case "LayerNorm", "RMSNorm":
      guard case .tuple(let stated)? = module.attributes["normalized_shape"] else { break }
      if let weight {
        settings = [("normalized_shape", .tuple(weight.map(TorchArgument.int)))]
      } else if !holds("weight"), let rank = newInputLengths.keys.max(), stated.count == 1,
        let length = newInputLengths[rank]
      {
        settings = [("normalized_shape", .tuple([.int(length)]))]
      }
    case "PReLU":
      if let length = weight?.first { settings = [("num_parameters", .int(length))] }
    case "Embedding":
      if let weight { settings = [("num_embeddings", .int(weight[0])), ("embedding_dim", .int(weight[1]))] }
    default: break
    }
    return settings.filter { module.attributes[$0.0] != nil && module.attributes[$0.0] != $0.1 }
  }
}
