/// The field numbers of ONNX's messages that are read or written here, from onnx-ml.proto (IR version 14), and the
/// limits that keep a hostile file from costing more than its size.
///
/// All other fields are carried along as they are.
enum ONNXSchema {
  enum Model {
    static let irVersion = 1
    static let producerName = 2
    static let producerVersion = 3
    static let graph = 7
    static let opsetImport = 8
    static let trainingInfo = 20
    static let functions = 25
    static let highest = 26
  }

  enum TrainingInfo {
    static let graphs = [1, 2]
  }

  enum OperatorSet {
    static let domain = 1
    static let version = 2
  }

  enum Graph {
    static let node = 1
    static let name = 2
    static let initializer = 5
    static let input = 11
    static let output = 12
    static let valueInfo = 13
    static let sparseInitializer = 15
  }

  enum Node {
    static let input = 1
    static let output = 2
    static let name = 3
    static let opType = 4
    static let attribute = 5
    static let domain = 7
    static let overload = 8
    static let deviceConfiguration = 10
  }

  enum Attribute {
    static let name = 1
    static let float = 2
    static let int = 3
    static let string = 4
    static let tensor = 5
    static let graph = 6
    static let floats = 7
    static let ints = 8
    static let strings = 9
    static let tensors = 10
    static let graphs = 11
    static let typeProto = 14
    static let typeProtos = 15
    static let type = 20
    static let referenceName = 21
    static let sparseTensor = 22
    static let sparseTensors = 23
    /// The fields of which one holds the attribute's value.
    static let values = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 22, 23]
  }

  /// AttributeProto.AttributeType.
  enum AttributeType: Int {
    case float = 1
    case int = 2
    case string = 3
    case tensor = 4
    case graph = 5
    case floats = 6
    case ints = 7
    case strings = 8
    case tensors = 9
    case graphs = 10
    case sparseTensor = 11
    case sparseTensors = 12
    case typeProto = 13
    case typeProtos = 14
  }

  enum Tensor {
    static let dims = 1
    static let dataType = 2
    static let segment = 3
    static let floatData = 4
    static let int32Data = 5
    static let stringData = 6
    static let int64Data = 7
    static let name = 8
    static let rawData = 9
    static let doubleData = 10
    static let uint64Data = 11
    static let externalData = 13
    static let dataLocation = 14
  }

  enum SparseTensor {
    static let values = 1
    static let indices = 2
  }

  enum Entry {
    static let key = 1
    static let value = 2
  }

  enum ValueInfo {
    static let name = 1
    static let type = 2
  }

  enum TypeProto {
    static let tensorType = 1
  }

  enum TensorType {
    static let elementType = 1
    static let shape = 2
  }

  enum Shape {
    static let dimension = 1
  }

  enum ShapeDimension {
    static let value = 1
    static let parameter = 2
  }

  enum Function {
    static let name = 1
    static let input = 4
    static let output = 5
    static let attribute = 6
    static let node = 7
    static let opsetImport = 9
    static let domain = 10
    static let attributeDefault = 11
    static let overload = 13
  }
}

enum ONNXLimits {
  /// More nodes than any network has; a node costs some 40 times its shortest encoding.
  static let nodes = 1 << 18
  /// Entries of a graph of any kind.
  static let graphFields = 1 << 21
  /// numpy's limit is 64 axes.
  static let rank = 64
  /// Nesting of subgraphs.
  static let depth = 64
  /// Operator sets before version 7 broadcast by other rules, and ONNX Runtime does not run them.
  static let oldestOpset = 7
  /// What operators mean in later versions is not known yet (onnx 1.23 writes 28).
  static let newestOpset = 28
}
