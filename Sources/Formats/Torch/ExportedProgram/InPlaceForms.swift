/// Calls that write into one of their arguments, said without writing: what they return stands for the argument from then
/// on.
///
/// `relu_(x)` becomes `relu(x)`, and whatever reads `x` later reads its result. Where other names for the same memory
/// (views) are read later, that would leave them with the old contents; such a call keeps its underscore, which no rule
/// of lowering knows.
struct InPlaceForms {
  /// What a call does to memory, in file order.
  struct Call {
    let function: String
    /// The names of tensors that it reads.
    let reads: [String]
    let results: [String]
  }

  /// Per call, the function as a program has it.
  private(set) var functions: [String] = []
  /// Per call, what names that were written into stand for when the call reads them.
  private(set) var standIns: [[String: String]] = []
  /// Names that were written into and that no call has made: inputs, parameters, buffers.
  private(set) var mutatedInputs: Set<String> = []
  private var overwritten = Overwritten()

  /// - Parameter outputs: names that the program returns, read after the last call.
  init(_ calls: [Call], outputs: [String]) {
    var lastRead: [String: Int] = [:]
    for (index, call) in calls.enumerated() { for name in call.reads { lastRead[name] = index } }
    for name in outputs { lastRead[name] = calls.count }
    var memory = SharedMemory()
    for (index, call) in calls.enumerated() {
      functions.append(call.function)
      standIns.append([:])
      if !overwritten.isEmpty {
        for name in call.reads where overwritten.holds(name) { standIns[index][name] = overwritten.current(name) }
      }
      let first = call.reads.first.map { standIns[index][$0] ?? $0 }
      if Self.isInPlace(call.function), let target = first, let result = call.results.first {
        let mayBeSeen = memory.hasRelative(of: target) { name in
          lastRead[name, default: -1] > index && overwritten.current(name) != target
        }
        if !mayBeSeen, !Self.withoutFunctionalForm.contains(call.function) {
          functions[index] = String(call.function.dropLast())
        }
        if let origin = memory.unmadeOrigin(of: target) { mutatedInputs.insert(origin) }
        overwritten.set(target, result)
        memory.add(result, viewOf: target, isPart: false)
      } else if Self.views.contains(call.function), let viewed = first {
        for result in call.results { memory.add(result, viewOf: viewed, isPart: call.results.count > 1) }
      } else {
        for result in call.results { memory.add(result) }
      }
    }
  }

  /// What `name` stands for after the last call.
  mutating func current(_ name: String) -> String { overwritten.current(name) }

  private static func isInPlace(_ function: String) -> Bool {
    function.hasSuffix("_") && !function.hasSuffix("__") && function.count > 1
  }

  /// Draw random numbers or change what a tensor is.
  private static let withoutFunctionalForm: Set = [
    "random_", "uniform_", "normal_", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "set_",
    "resize_", "requires_grad_", "detach_",
  ]

  /// Functions whose results are, or may be, their first argument's memory.
  private static let views: Set = [
    "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "permute", "transpose", "t", "numpy_T", "unsqueeze",
    "squeeze", "select", "slice", "expand", "expand_as", "chunk", "split", "split_with_sizes", "tensor_split", "hsplit",
    "vsplit", "dsplit", "unbind", "flatten", "unflatten", "narrow", "diagonal", "detach", "alias", "contiguous", "to",
    "type_as", "movedim", "moveaxis", "swapaxes", "swapdims", "as_strided", "unfold", "real", "imag", "view_as_real",
    "view_as_complex", "ravel", "adjoint", "mT", "mH", "dropout", "feature_dropout", "alpha_dropout", "lift",
    "lift_fresh", "positive", "conj", "resolve_conj", "resolve_neg", "atleast_1d", "atleast_2d", "atleast_3d",
    "broadcast_to", "_reshape_alias", "pixel_shuffle",
  ]
}

/// Which names may be of the same memory: a tree of views for each piece of it.
///
/// Invariant: looking through trees takes a bounded number of steps in all; what was not looked at counts as shared.
private struct SharedMemory {
  private struct Place {
    let parent: String?
    /// Whether it and others were cut from the parent without overlap.
    let isPart: Bool
    var children: [String] = []
  }

  private var places: [String: Place] = [:]
  private var made: Set<String> = []
  private var stepsLeft = 1 << 20

  mutating func add(_ name: String) {
    made.insert(name)
    places[name] = Place(parent: nil, isPart: false)
  }

  mutating func add(_ name: String, viewOf other: String, isPart: Bool) {
    made.insert(name)
    // A name that no call has made is an input, parameter or buffer.
    places[other, default: Place(parent: nil, isPart: false)].children.append(name)
    places[name] = Place(parent: other, isPart: isPart)
  }

  /// The input, parameter or buffer that `name` is, or is a view of.
  mutating func unmadeOrigin(of name: String) -> String? {
    var origin = name
    while let parent = places[origin]?.parent, step() { origin = parent }
    return made.contains(origin) ? nil : origin
  }

  /// Whether `condition` holds for another name that may share elements with `name`: any of its tree, but for other
  /// parts of a whole that it is a part of.
  mutating func hasRelative(of name: String, where condition: (String) -> Bool) -> Bool {
    var (current, below) = (name, String?.none)
    while true {
      if current != name, condition(current) { return true }
      let cameFromPart = below.flatMap { places[$0]?.isPart } ?? false
      var pending = (places[current]?.children ?? []).filter { child in
        child != below && !(cameFromPart && places[child]?.isPart ?? false)
      }
      while let next = pending.popLast() {
        guard step() else { return true }
        if condition(next) { return true }
        pending += places[next]?.children ?? []
      }
      guard let parent = places[current]?.parent else { return false }
      guard step(places[current]?.children.count ?? 0) else { return true }
      (current, below) = (parent, current)
    }
  }

  private mutating func step(_ count: Int = 1) -> Bool {
    stepsLeft -= count + 1
    return stepsLeft > 0
  }
}

/// By name, the result of the call that wrote into it.
private struct Overwritten {
  private var next: [String: String] = [:]

  var isEmpty: Bool { next.isEmpty }
  func holds(_ name: String) -> Bool { next[name] != nil }
  mutating func set(_ name: String, _ result: String) { next[name] = result }

  /// Follows results that were written into in turn, and remembers where that led.
  mutating func current(_ name: String) -> String {
    var last = name
    while let following = next[last] { last = following }
    var passed = name
    while let following = next[passed], following != last {
      next[passed] = last
      passed = following
    }
    return last
  }
}
