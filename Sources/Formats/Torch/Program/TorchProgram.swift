import ModelGraph

/// A network as PyTorch's files hold it: a list of operator calls in execution order, whichever file it came from. What
/// a GraphModule says in Python and an exported program in JSON is said here in one way, so that lowering and surgery
/// are written once.
///
/// Invariant: a name is bound once, by an input or a call, before anything refers to it; every parameter that a call
/// names is in `parameters`.
struct TorchProgram: Sendable {
  var inputs: [Input]
  var calls: [TorchCall]
  /// What the program returns, with tuples, lists and dictionaries as they are nested.
  var output: TorchArgument
  /// By state-dict name; what is tied has several names and the same `storage`.
  var parameters: [String: TorchParameter]

  struct Input: Sendable {
    let name: String
    /// nil where the file says nothing about it (a GraphModule).
    let dtype: DType?
    let shape: [Dimension]?
  }
}

/// A parameter or buffer: a dense view of the file's bytes.
struct TorchParameter: Sendable {
  /// Row-major: what is stored with other strides was copied into order.
  let tensor: Tensor
  /// Two parameters with the same storage key and view are one tensor with two names.
  let storage: StorageView
  /// Buffers are not trained.
  let isBuffer: Bool

  struct StorageView: Hashable, Sendable {
    let key: String
    /// In elements.
    let offset: Int
    let shape: [Int]
    let strides: [Int]
  }
}

/// One call: of an operator, by its ATen name, or of a module.
struct TorchCall: Sendable {
  enum Target: Sendable {
    /// The name without namespace and overload: "conv2d", "view", "add", "getitem", "scaled_dot_product_attention".
    /// Functions of torch, torch.nn.functional, torch._C._nn, operator and builtins and methods of tensors are told
    /// apart by nothing else; in-place forms have lost their underscore.
    case function(String)
    case module(TorchModule)
  }

  let target: Target
  /// As written: a method's receiver comes first.
  let arguments: [TorchArgument]
  let keywords: [Keyword]
  /// The names it binds: one (a tensor, a number or a tuple), or one per element of what it returns.
  let results: [String]
  let bindsElements: Bool
  /// The path of the module that the call belongs to ("layer1.0.conv1"); empty where the file does not say.
  let scope: String
  /// Shapes and element types that the file declares, by result.
  let declared: [TorchProgram.Input]

  struct Keyword: Sendable {
    let name: String
    let value: TorchArgument
  }
}

/// What a call is given: literals, references, and lists of them.
indirect enum TorchArgument: Sendable, Equatable {
  /// What an input or an earlier call bound.
  case reference(String)
  /// A parameter or buffer, by its state-dict name.
  case parameter(String)
  case none
  case bool(Bool)
  case int(Int)
  case float(Double)
  case string(String)
  /// A name of PyTorch's that stands for itself: "torch.float32", "torch.strided", "device(type='cpu')".
  case symbol(String)
  case list([TorchArgument])
  case tuple([TorchArgument])
  case dictionary([Entry])
  case slice(start: TorchArgument, end: TorchArgument, step: TorchArgument)
  case ellipsis

  struct Entry: Sendable, Equatable {
    let key: String
    let value: TorchArgument
  }
}

/// Where in a call a literal stands: the argument (positional ones first, then keywords), then the element of a list or
/// tuple, of a slice (0, 1, 2), and so on inwards.
struct ArgumentPlace: Hashable, Sendable {
  /// Index into the program's calls.
  let call: Int
  let path: [Int]
}

/// A module of torch.nn as a pickle holds it.
final class TorchModule: Sendable {
  /// "Conv2d", ...
  let className: String
  /// "layer1.0.conv1".
  let path: String
  /// Settings that are plain values: numbers, strings, tuples of them.
  let attributes: [String: TorchArgument]
  /// By attribute name: the state-dict name, nil for an absent one (`bias=False`).
  let parameters: [String: String?]
  /// In order.
  let children: [TorchModule]

  init(
    className: String, path: String, attributes: [String: TorchArgument], parameters: [String: String?],
    children: [TorchModule]
  ) {
    (self.className, self.path, self.attributes) = (className, path, attributes)
    (self.parameters, self.children) = (parameters, children)
  }

  /// The last part of the path.
  var name: Substring { path.split(separator: ".").last ?? "" }
}
