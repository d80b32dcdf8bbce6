import ModelGraph

/// A network as PyTorch's files hold it: a list of operator calls in execution order, whichever file it came from. What
/// a GraphModule says in Python and an exported program in JSON is said here in one way, so that lowering and surgery
/// are written once.
///
/// Invariant: a name is bound once, by an input or a call, before anything refers to it; every parameter that a call
/// names is in `parameters`.
package struct TorchProgram: Sendable {
  package var inputs: [Input]
  package var calls: [TorchCall]
  /// What the program returns, with tuples, lists and dictionaries as they are nested.
  package var output: TorchArgument
  /// By state-dict name; what is tied has several names and the same `storage`.
  package var parameters: [String: TorchParameter]
  /// Names of those that a run of the program changes: running statistics, caches, counters.
  package var mutated: Set<String> = []
  /// The lengths that open axes had when the program was made, by symbol, where the file says so.
  package var lengths: [String: Int] = [:]

  package struct Input: Sendable {
    package let name: String
    /// nil where the file says nothing about it (a GraphModule).
    package let dtype: DType?
    package let shape: [Dimension]?
  }
}

/// A parameter or buffer: a dense view of the file's bytes.
package struct TorchParameter: Sendable {
  /// Row-major: what is stored with other strides was copied into order.
  package let tensor: Tensor
  /// Two parameters with the same storage key and view are one tensor with two names.
  package let storage: StorageView
  /// Buffers are not trained.
  package let isBuffer: Bool

  package struct StorageView: Hashable, Sendable {
    package let key: String
    /// In elements.
    package let offset: Int
    package let shape: [Int]
    package let strides: [Int]
  }
}

/// One call: of an operator, by its ATen name, or of a module.
package struct TorchCall: Sendable {
  package enum Target: Sendable {
    /// The name without namespace and overload: "conv2d", "view", "add", "getitem", "scaled_dot_product_attention".
    /// Functions of torch, torch.nn.functional, torch._C._nn, operator and builtins and methods of tensors are told
    /// apart by nothing else. In-place forms have lost their underscore, and what reads the changed tensor later reads the
    /// result; one keeps it where a view of the same memory is read later, which would show the change too.
    case function(String)
    case module(TorchModule)
  }

  package let target: Target
  /// As written: a method's receiver comes first.
  package let arguments: [TorchArgument]
  package let keywords: [Keyword]
  /// The names it binds: one (a tensor, a number or a tuple), or one per element of what it returns, empty for elements
  /// that are none.
  package let results: [String]
  package let bindsElements: Bool
  /// The path of the module that the call belongs to ("layer1.0.conv1"); empty where the file does not say.
  package let scope: String
  /// Shapes and element types that the file declares, by result.
  package let declared: [TorchProgram.Input]

  package var isOfModule: Bool { if case .module = target { true } else { false } }

  package struct Keyword: Sendable {
    package let name: String
    package let value: TorchArgument
  }
}

/// What a call is given: literals, references, and lists of them.
package indirect enum TorchArgument: Sendable, Equatable {
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

  package struct Entry: Sendable, Equatable {
    package let key: String
    package let value: TorchArgument

    package init(key: String, value: TorchArgument) { (self.key, self.value) = (key, value) }
  }
}

/// Where in a call a literal stands: the argument (positional ones first, then keywords), then the element of a list or
/// tuple, of a slice (0, 1, 2), and so on inwards.
package struct ArgumentPlace: Hashable, Sendable {
  /// Index into the program's calls.
  package let call: Int
  package let path: [Int]

  package init(call: Int, path: [Int]) { (self.call, self.path) = (call, path) }
}

/// A module of torch.nn as a pickle holds it.
package final class TorchModule: Sendable {
  /// "Conv2d", ...
  package let className: String
  /// "layer1.0.conv1".
  package let path: String
  /// Settings that are plain values: numbers, strings, tuples of them.
  package let attributes: [String: TorchArgument]
  /// By attribute name: the state-dict name, nil for an absent one (`bias=False`).
  package let parameters: [String: String?]
  /// In order.
  package let children: [TorchModule]

  package init(
    className: String, path: String, attributes: [String: TorchArgument], parameters: [String: String?],
    children: [TorchModule]
  ) {
    (self.className, self.path, self.attributes) = (className, path, attributes)
    (self.parameters, self.children) = (parameters, children)
  }

  /// The last part of the path.
  package var name: Substring { path.split(separator: ".").last ?? "" }
}
