/// Inference over graphs made of nonsense: every known operator with random inputs, settings and attributes, most of
/// them wrong. Whatever the file says, the answer is a table within the limits or a typed failure.
import ModelGraph
import TestSupport
import Testing

@Suite struct HostileGraphTests {
  private static let numbers = [0, 1, 1, 2, 2, 3, 4, 8, -1, -2, 64, 65, 1 << 31, 1 << 59, .max, .min]
  private static let lengths = [0, 1, 1, 2, 2, 3, 4, 8, 1 << 20, 1 << 40]
  private static let reals: [Float] = [0, 1, 2, 0.5, -1, 1e30, .infinity, .nan]
  private static let attributeNames = [
    "allowzero", "axes", "axis", "batch_dims", "blocksize", "ceil_mode", "dilations", "end", "ends", "fmod", "group",
    "k", "keepdims", "kernel_shape", "kv_num_heads", "layout", "noop_with_empty_axes", "num_groups", "num_outputs",
    "output_height", "output_padding", "output_shape", "pads", "perm", "pooled_shape", "q_num_heads", "sample_size",
    "shape", "split", "start", "starts", "steps", "strides", "to", "transA", "transB",
  ]
  private static let equations = ["ij,jk->ik", "...i,i", "ii->", "a,b,c->abc", "i...->...", "->", "", ",", "é"]

  private static func attributes(_ dice: inout SeededGenerator) -> [String: Attribute] {
    var attributes: [String: Attribute] = [:]
    for name in attributeNames where Int.random(in: 0..<4, using: &dice) == 0 {
      let list = (0..<Int.random(in: 0..<5, using: &dice)).map { _ in numbers.randomElement(using: &dice)! }
      attributes[name] = Bool.random(using: &dice) ? .ints(list) : .int(list.first ?? 0)
    }
    attributes["equation"] = .string(equations.randomElement(using: &dice)!)
    attributes["auto_pad"] = ["SAME_UPPER", "VALID", "NOTSET", "?"].randomElement(using: &dice)!
    attributes["keep_aspect_ratio_policy"] = ["not_larger", "not_smaller"].randomElement(using: &dice)!
    if Bool.random(using: &dice) { attributes["scales"] = .floats([2, 1e30, .nan]) }
    if Bool.random(using: &dice) {
      attributes["value"] = .tensor(Tensor(dtype: .string, shape: [.max, 4], bytes: TensorBytes(copying: [UInt8]())))
    }
    return attributes
  }

  private static func operand(_ g: GraphBuilder, _ dice: inout SeededGenerator, earlier: [ValueID]) -> ValueID? {
    let count = Int.random(in: 0..<5, using: &dice)
    switch Int.random(in: 0..<6, using: &dice) {
    case 0: return nil
    case 1: return g.ints((0..<count).map { _ in Int64(numbers.randomElement(using: &dice)!) })
    case 2: return g.ints([Int64(numbers.randomElement(using: &dice)!)], shape: [])
    case 3: return g.floats((0..<count).map { _ in reals.randomElement(using: &dice)! })
    case 4: return g.input("x", (0..<count).map { _ in .fixed(lengths.randomElement(using: &dice)!) })
    default: return earlier.randomElement(using: &dice)
    }
  }

  @Test(arguments: 0..<8) func anythingGivesATableOrAFailure(seed: Int) throws {
    var dice = SeededGenerator(seed: UInt64(seed))
    var (tables, failures) = (0, 0)
    for round in 0..<6000 {
      let g = GraphBuilder(opset: [9, 11, 13, 18, 21].randomElement(using: &dice)!)
      var earlier: [ValueID] = []
      for step in 0..<3 {
        let op = ShapeRules.operators[(round + step * 7) % ShapeRules.operators.count]
        let inputs = (0..<Int.random(in: 0..<6, using: &dice)).map { _ in
          Self.operand(g, &dice, earlier: earlier)
        }
        earlier += g.node(
          op, inputs, Self.attributes(&dice), outputs: Int.random(in: 0..<4, using: &dice))
      }
      let graph = g.build()
      do {
        let shapes = try graph.inferShapes()
        tables += 1
        _ = CostModel.macs(of: graph, shapes: { shapes.nominal[$0] })
        for id in graph.valueIDs {
          if let shape = shapes.nominal[id] {
            #expect(shape.count <= 64 && shape.allSatisfy { (0...1 << 60).contains($0) })
          }
          if let array = shapes.nominal.contents(of: id) {
            #expect(array.count <= ElementArray.limit)
            #expect(array.shape.reduce(1, *) == array.count)
            #expect(array.shape == shapes.nominal[id])
          }
        }
        _ = graph.evaluateShapeArithmetic(
          lengths: { $0.index % 2 == 0 ? [2, .max, -1] : [3] },
          stored: { $0.index % 2 == 0 ? ElementArray([1, .max, .min], shape: [3]) : ElementArray([2.5], shape: []) })
      } catch let failure {
        failures += 1
        #expect(failure.kind == .modelMalformed || failure.kind == .inputShapeMismatch)
      }
    }
    // Both ways out must really be taken.
    #expect(tables > 200 && failures > 1000)
  }

  @Test func everyOperatorHasOneRule() {
    #expect(Set(ShapeRules.operators).count == ShapeRules.operators.count)
    #expect(ShapeRules.operators.count > 150)
  }
}
