import JSON
import ModelGraph
import Numerics

// What the rules append besides nodes: constants, and the variables of layers.

extension KerasLowering {
  // MARK: Elements

  mutating func cast(_ tensor: KerasTensor, to type: DType) throws(Failure) -> KerasTensor {
    guard dtype(tensor) != type else { return tensor }
    let source = primary(tensor)
    let result = self.tensor(try cast(source.value, to: type), source.axes)
    masks[result] = masks[tensor]
    return result
  }

  mutating func cast(_ id: ValueID, to type: DType) throws(Failure) -> ValueID {
    guard dtype(id) != type else { return id }
    return try node("Cast", [id], ["to": .int(type.rawValue)], as: "cast", dtype: type)
  }

  /// The same, element by element, in whatever order the axes are.
  mutating func unary(
    _ op: String, _ tensor: KerasTensor, _ attributes: [String: Attribute] = [:], as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    let x = primary(tensor)
    return self.tensor(try node(op, [x.value], attributes, as: suffix), x.axes)
  }

  // MARK: Constants

  /// Integers that nobody wrote.
  mutating func integers(_ elements: [Int], shape: [Int]? = nil, as suffix: String) -> ValueID {
    integers(elements.map { KerasInteger(value: $0) }, shape: shape, as: suffix)
  }

  mutating func integers(_ elements: [KerasInteger], shape: [Int]? = nil, as suffix: String) -> ValueID {
    let id = assembler.constant(
      "\(base).\(suffix)", Tensor(int64: elements.map { Int64($0.value) }, shape: shape))
    literals[id] = elements.map(\.place)
    return id
  }

  /// A number of type `dtype`, with no axes.
  mutating func scalar(_ value: Double, _ dtype: DType, as suffix: String = "value") throws(Failure) -> ValueID {
    guard let tensor = Tensor(scalar: value, dtype) else {
      throw unsupported("the number \(value) is not written as \(dtype)")
    }
    return assembler.constant("\(base).\(suffix)", tensor)
  }

  /// A vector of our own.
  mutating func vector(_ elements: [Double], _ dtype: DType, as suffix: String) throws(Failure) -> ValueID {
    let id = assembler.constant("\(base).\(suffix)", Tensor(float32: elements.map(Float.init)))
    if elements.count > 1 { fixed[id] = "'\(base)' makes its numbers by itself, one for each index" }
    return try cast(id, to: dtype)
  }

  /// A tensor of `value` as long as `other`, computed so that it follows when the other is cut.
  mutating func filled(_ value: Double, like other: ValueID, as suffix: String) throws(Failure) -> ValueID {
    let number = try scalar(value, dtype(other), as: "\(suffix)_value")
    return try node("Expand", [number, node("Shape", [other], as: "\(suffix)_shape")], as: suffix)
  }

  // MARK: Lengths

  /// The length of an axis as a vector of one: a constant where no length is open.
  mutating func length(_ id: ValueID, _ axis: Int) throws(Failure) -> ValueID {
    if axis > 0, !hasOpenLengths { return integers([try shape(id)[axis]], as: "length") }
    return try node("Shape", [id], ["start": .int(axis), "end": .int(axis + 1)], as: "length")
  }

  // MARK: Variables

  /// A layer's variable as it is stored.
  mutating func variable(_ role: String, _ a: KerasArguments) throws(Failure) -> ValueID {
    let variable = try stored(role, a.layer)
    return try self.variable(variable, variable.tensor.shape.indices.map { [$0] })
  }

  func stored(_ role: String, _ layer: KerasLayer) throws(Failure) -> KerasVariable {
    guard let variable = layer.variable(role) else {
      throw malformed("it has no variable '\(role)'; it has \(layer.variables.map(\.role))")
    }
    return variable
  }

  /// A variable with its axes in the order `axes`, several as one where lists are longer.
  /// - Parameter depthwise: the same for a kernel of one filter per channel in its place.
  mutating func variable(
    _ variable: KerasVariable, _ axes: [[Int]], depthwise: [[Int]]? = nil
  ) throws(Failure) -> ValueID {
    let view = VariableView(path: variable.path, axes: axes)
    if let known = variableValues[variable.path] {
      guard variables[known] != view else { return known }
      return try reordered(known, to: axes, shape: variable.tensor.shape)
    }
    let tensor = variable.tensor
    let order = axes.flatMap { $0 }
    guard order.sorted() == Array(tensor.shape.indices), let width = tensor.dtype.byteWidth else {
      throw malformed(
        "its variable '\(variable.role)' has the shape \(tensor.shape) of \(tensor.dtype), which does not fit")
    }
    let permutation = AxisPermutation(shape: tensor.shape, order: order, elementBytes: width)
    let bytes =
      permutation.isIdentity
      ? tensor.bytes
      : TensorBytes(prepared: tensor.bytes.count) { target in
        if let base = target.baseAddress { permutation.copy(from: tensor.bytes.base, to: base) }
      }
    let shape = axes.map { $0.reduce(1) { $0 * tensor.shape[$1] } }
    let isAsStored = axes == tensor.shape.indices.map { [$0] }
    let id = assembler.stored(
      variable.name, Tensor(dtype: tensor.dtype, shape: shape, bytes: bytes),
      as: isAsStored ? nil : StoredAxes(axes: axes, shape: tensor.shape, depthwise: depthwise))
    variableValues[variable.path] = id
    variables[id] = view
    return id
  }

  /// A variable that the graph has in one order, in another: computed, since it is one tensor.
  private mutating func reordered(_ known: ValueID, to axes: [[Int]], shape: [Int]) throws(Failure) -> ValueID {
    guard let have = variables[known]?.axes else { throw malformed("a variable is read in two ways") }
    let (from, to) = (have.flatMap { $0 }, axes.flatMap { $0 })
    let single = from.count == have.count && !have.contains([])
    let flat = single ? known : try node("Reshape", [known, integers(from.map { shape[$0] }, as: "shape")], as: "axes")
    let order = to.compactMap { from.firstIndex(of: $0) }
    let turned =
      order == Array(order.indices) ? flat : try node("Transpose", [flat], ["perm": .ints(order)], as: "order")
    if axes.allSatisfy({ $0.count == 1 }) { return turned }
    let target = axes.map { $0.reduce(1) { $0 * shape[$1] } }
    return try node("Reshape", [turned, integers(target, as: "shape")], as: "joined")
  }

  /// The layer stays one layer: no row of layers takes its place.
  mutating func keepWhole(_ weight: ValueID, _ why: String) {
    if indivisible[weight] == nil { indivisible[weight] = why }
  }
}
