/// The sizes that layers of Keras's state and their variables have.
enum LayerSizes {
  /// - Parameter shapes: of variables that changed, by role, in Keras's order of axes.
  /// - Returns: what the layer's settings are to say.
  static func settings(of className: String, _ shapes: [String: [Int]]) -> [(name: String, value: Int)] {
    /// The length of an axis counted from the end, of a variable that changed.
    func length(_ role: String, fromEnd k: Int) -> Int? {
      guard let shape = shapes[role], shape.count >= k else { return nil }
      return shape[shape.count - k]
    }
    let settings: [(String, Int?)] =
      switch className {
      case "Dense": [("units", length("kernel", fromEnd: 1))]
      case "Conv1D", "Conv2D", "Conv3D": [("filters", length("kernel", fromEnd: 1))]
      case "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose": [("filters", length("kernel", fromEnd: 2))]
      case "DepthwiseConv1D", "DepthwiseConv2D": [("depth_multiplier", length("depthwise_kernel", fromEnd: 1))]
      case "SeparableConv1D", "SeparableConv2D":
        [
          ("filters", length("pointwise_kernel", fromEnd: 1)),
          ("depth_multiplier", length("depthwise_kernel", fromEnd: 1)),
        ]
      case "Embedding":
        [("input_dim", length("embeddings", fromEnd: 2)), ("output_dim", length("embeddings", fromEnd: 1))]
      case "MultiHeadAttention":
        [
          ("num_heads", length("query/kernel", fromEnd: 2)), ("key_dim", length("query/kernel", fromEnd: 1)),
        ]
      case "GroupQueryAttention", "GroupedQueryAttention":
        [
          ("num_query_heads", length("query/kernel", fromEnd: 2)),
          ("num_key_value_heads", length("key/kernel", fromEnd: 2)),
          ("head_dim", length("query/kernel", fromEnd: 1)),
        ]
      case "LSTM", "GRU", "SimpleRNN": [("units", length("cell/recurrent_kernel", fromEnd: 2))]
      case "LSTMCell", "GRUCell", "SimpleRNNCell": [("units", length("recurrent_kernel", fromEnd: 2))]
      default: []
      }
    return settings.compactMap { name, value in value.map { (name, $0) } }
  }
}
