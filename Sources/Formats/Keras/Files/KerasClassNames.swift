/// What names of classes say: which are Keras's own, and what files call them.
enum KerasClassNames {
  /// Layers of TensorFlow operators in tf.keras's files; the operator is the setting `function`.
  static let tensorFlowOperations: Set<String> = [
    "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty",
  ]

  static let models: Set<String> = ["Sequential", "Functional", "Model"]

  /// The name that a class is exported by, which legacy files have not always.
  static func exported(_ className: String) -> String {
    className == "GroupedQueryAttention" ? "GroupQueryAttention" : className
  }

  /// The name of the group that a v3 archive keeps a layer in (keras/src/utils/naming.py, `to_snake_case`).
  static func group(of className: String) -> String {
    // A few classes bear another name inside Keras than the one they are exported by.
    let name = className == "GroupQueryAttention" ? "GroupedQueryAttention" : className
    let word = Array(
      name.unicodeScalars.filter { $0.properties.isAlphabetic || $0.properties.numericType != nil || $0 == "_" })
    // Two passes, each as Python's re.sub takes its matches: from left to right, not overlapping.
    func isUpper(_ scalar: Unicode.Scalar) -> Bool { scalar >= "A" && scalar <= "Z" }
    func isLower(_ scalar: Unicode.Scalar) -> Bool { scalar >= "a" && scalar <= "z" }
    var first: [Unicode.Scalar] = []
    var index = 0
    while index < word.count {
      first.append(word[index])
      // (.)([A-Z][a-z]+) -> \1_\2
      if index + 2 < word.count, isUpper(word[index + 1]), isLower(word[index + 2]) {
        first.append("_")
        index += 1
        first.append(word[index])
        while index + 1 < word.count, isLower(word[index + 1]) {
          index += 1
          first.append(word[index])
        }
      }
      index += 1
    }
    var result = String.UnicodeScalarView()
    for (index, scalar) in first.enumerated() {
      result.append(scalar)
      // ([a-z])([A-Z]) -> \1_\2
      if isLower(scalar), index + 1 < first.count, isUpper(first[index + 1]) { result.append("_") }
    }
    return String(result).lowercased()
  }

  /// Whether a legacy file, which does not say where classes are, means a class of Keras's.
  static func isKeras(_ className: String) -> Bool { layers.contains(className) }

  /// Layers of Keras 3.15 and tf.keras 2.15, under all their names.
  private static let layers: Set<String> = Set(
    """
    AbstractRNNCell Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D \
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention \
    AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D \
    AvgPool2D AvgPool3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D \
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D \
    Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D \
    Cropping2D Cropping3D Dense DenseFeatures DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU \
    EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D \
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D \
    GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization \
    GroupQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM LSTMCell LayerNormalization \
    LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D \
    MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply Normalization PReLU Permute \
    RMSNormalization RNN RandomBrightness RandomContrast RandomCrop RandomFlip RandomHeight RandomRotation \
    RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding \
    STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN \
    SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization \
    StackedRNNCells StringLookup Subtract TextVectorization ThresholdedReLU TimeDistributed UnitNormalization \
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split(separator: " ").map(String.init))
}
