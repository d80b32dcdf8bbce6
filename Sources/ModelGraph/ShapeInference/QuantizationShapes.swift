/// Shapes of quantisation operators: the values keep their shape; computed scale and zero point are scalars.
enum QuantizationShapes {
  static let rules: [String: ShapeRule] = [
    "QuantizeLinear": ElementwiseShapes.sameAsFirst, "DequantizeLinear": ElementwiseShapes.sameAsFirst,
    "DynamicQuantizeLinear": { call throws(Failure) in [call.shape(0), [], []] },
  ]
}
