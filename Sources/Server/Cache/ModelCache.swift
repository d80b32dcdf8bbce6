import Compression
import Formats
import Glibc
import JSONRPC
import ModelGraph
import Threads

/// The models kept warm: loaded once however many ask, checked against their files on each use, and dropped, least
/// recently used first, to stay within a byte budget.
///
/// Invariants: what is held beyond the budget is in use; no lock is held while a file is looked at or a model computes;
/// a load is cancelled when the last request that waits for it is gone, and only then.
package final class ModelCache: Sendable {
  private struct Entry {
    let model: CachedModel
    /// As last counted.
    var bytes: Int
    /// Requests using it now; such a model is not evicted.
    var pins = 0
    var lastUse = 0
    var hits = 0
  }

  private struct State {
    var entries: [CachedModel.Key: Entry] = [:]
    var loads: [CachedModel.Key: ModelLoad] = [:]
    var rejected: [CachedModel.Key: Rejection] = [:]
    var runningLoads = 0
    /// Counts uses; the order of last uses is all that matters.
    var clock = 0
    var (hits, misses, evictions) = (0, 0, 0)
  }

  /// A file that turned out to be no model. Remembered for a moment, so that a client that asks in a loop does not
  /// have it read in a loop.
  private struct Rejection {
    let failure: Failure
    let file: FileIdentity
    let until: Instant
    static let seconds = 1.0
  }

  private enum Step {
    case use(CachedModel)
    case wait(ModelLoad, isNew: Bool)
    case reject(Failure)
  }

  private let loader: ModelLoader
  private let scheduler: Scheduler
  private let state = Monitor(State())
  private let configuredBudget: Int?
  private static let shareOfMemory = defaultCacheBytes()

  /// - Parameter budgetBytes: nil for a share of the memory there is, looked up when first needed.
  init(loader: ModelLoader, budgetBytes: Int?, scheduler: Scheduler) {
    (self.loader, self.scheduler, configuredBudget) = (loader, scheduler, budgetBytes)
  }

  private var budgetBytes: Int { configuredBudget ?? ModelCache.shareOfMemory }

  // MARK: Use

  /// A model as a request uses it.
  struct Use: Sendable {
    let model: CachedModel
    let wasCached: Bool
    var document: any ModelDocument { model.document }
    var compressible: CompressibleModel { model.compressible }
  }

  /// Runs `body` with the model in memory, loading it if need be. If the model's file changes meanwhile, once more
  /// with what it is then.
  /// - Throws: what loading or `body` throws; `Failure(.cancelled)` within milliseconds of being cancelled while
  ///   waiting.
  func withModel<R>(
    _ reference: ModelReference, work: Work, _ body: (Use, Work) throws(Failure) -> R
  ) throws(Failure) -> R {
    do {
      return try withModelOnce(reference, work: work, body)
    } catch {
      guard error.kind == .modelChanged else { throw error }
      return try withModelOnce(reference, work: work, body)
    }
  }

  private func withModelOnce<R>(
    _ reference: ModelReference, work: Work, _ body: (Use, Work) throws(Failure) -> R
  ) throws(Failure) -> R {
    let key = CachedModel.Key(
      path: try canonical(reference.file.path), format: reference.format, inputShapes: reference.inputShapes)
    let use = try pinned(key, work: work)
    defer { unpin(use.model) }
    do {
      return try body(use, use.wasCached ? work : work.part(0.3...1))
    } catch {
      // What went wrong with a file that somebody wrote to meanwhile says nothing of the model.
      if error.kind != .cancelled { try use.document.verifyUnchanged() }
      throw error
    }
  }

  /// The model, with a pin of the caller's on it.
  private func pinned(_ key: CachedModel.Key, work: Work) throws(Failure) -> Use {
    while true {
      try work.checkCancellation()
      switch nextStep(key, work: work.part(0...0.3)) {
      case .use(let model):
        do {
          try model.document.verifyUnchanged()
          return Use(model: model, wasCached: true)
        } catch {
          unpin(model)
          drop(model)
        }
      case .wait(let load, let isNew):
        if isNew { start(load, key) }
        return Use(model: try wait(for: load, key, work: work), wasCached: false)
      case .reject(let failure): throw failure
      }
    }
  }

  /// Decides under the lock; a model to use comes back pinned.
  private func nextStep(_ key: CachedModel.Key, work: Work) -> Step {
    let file = FileIdentity(at: key.path)
    return state.withLock { state in
      if var entry = state.entries[key] {
        entry.hits += 1
        state.hits += 1
        state.entries[key] = entry
        pin(entry.model, &state)
        return .use(entry.model)
      }
      if let rejection = state.rejected[key] {
        if rejection.file == file, Instant.now < rejection.until { return .reject(rejection.failure) }
        state.rejected[key] = nil
      }
      if let load = state.loads[key], load.join(work) { return .wait(load, isNew: false) }
      let load = ModelLoad(work)
      state.loads[key] = load
      state.misses += 1
      return .wait(load, isNew: true)
    }
  }

  private func pin(_ model: CachedModel, _ state: inout State) {
    guard var entry = state.entries[model.key], entry.model === model else { return }
    state.clock += 1
    entry.pins += 1
    entry.lastUse = state.clock
    state.entries[model.key] = entry
  }

  private func unpin(_ model: CachedModel) {
    let bytes = model.bytes
    state.withLock { state in
      guard var entry = state.entries[model.key], entry.model === model else { return }
      entry.pins -= 1
      entry.bytes = bytes
      state.entries[model.key] = entry
      evict(&state)
    }
  }

  private func drop(_ model: CachedModel) {
    state.withLock { state in
      if state.entries[model.key]?.model === model { state.entries[model.key] = nil }
    }
  }

  private func evict(_ state: inout State) {
    var bytes = state.entries.values.reduce(0) { $0 + $1.bytes }
    while bytes > budgetBytes,
      let (key, entry) = state.entries.filter({ $0.value.pins == 0 }).min(by: {
        $0.value.lastUse < $1.value.lastUse
      })
    {
      bytes -= entry.bytes
      state.entries[key] = nil
      state.evictions += 1
    }
  }

  // MARK: Loading

  private func start(_ load: ModelLoad, _ key: CachedModel.Key) {
    // A thread of its own: the request that came first may be cancelled while others go on waiting.
    let hasStarted = startThread(stackBytes: 8 << 20) { [self] in run(load, key) }
    if !hasStarted { finish(load, key, .failure(Failure(.resourceLimit, "the system gives no more threads"))) }
  }

  private func run(_ load: ModelLoad, _ key: CachedModel.Key) {
    // More at a time would only take processor and memory from each other.
    _ = state.wait { state -> Bool? in
      guard state.runningLoads < scheduler.parallelism else { return nil }
      state.runningLoads += 1
      return true
    }
    let file = FileIdentity(at: key.path)
    let outcome = Result { () throws(Failure) -> CachedModel in
      let model = try CachedModel(key, loader, work: load.work)
      guard model.bytes <= budgetBytes else {
        throw Failure(
          .resourceLimit,
          "the model needs \(model.bytes) bytes; all models together may have \(budgetBytes) (--cache-bytes)",
          details: ["needed_bytes": .int(model.bytes), "budget_bytes": .int(budgetBytes)])
      }
      return model
    }
    state.withLock { state in
      state.runningLoads -= 1
      if case .failure(let failure) = outcome, let file, failure.kind.isAboutTheBytes {
        let until = Instant.now.adding(seconds: Rejection.seconds)
        state.rejected = state.rejected.filter { $0.value.until > Instant.now }
        state.rejected[key] = Rejection(failure: failure, file: file, until: until)
      }
    }
    finish(load, key, outcome)
  }

  private func finish(_ load: ModelLoad, _ key: CachedModel.Key, _ outcome: Result<CachedModel, Failure>) {
    state.update { state in
      // A load whose waiters have all left was replaced or forgotten, and its model is wanted by nobody.
      if state.loads[key] === load {
        state.loads[key] = nil
        if case .success(let model) = outcome {
          state.clock += 1
          state.entries[key] = Entry(model: model, bytes: model.bytes, lastUse: state.clock)
        }
      }
      load.finish(outcome)
    }
  }

  /// The loaded model, pinned.
  private func wait(for load: ModelLoad, _ key: CachedModel.Key, work: Work) throws(Failure) -> CachedModel {
    // Nothing signals a cancellation flag, so it is looked at every few milliseconds.
    let outcome = scheduler.whileWaiting { () -> Result<CachedModel, Failure>? in
      while !work.cancellation.isSet {
        let slice = Instant.now.adding(seconds: 0.01)
        if let outcome = state.wait(until: slice, for: { _ in load.outcome }) { return outcome }
      }
      return nil
    }
    guard let outcome else {
      state.withLock { state in
        if load.leave(work), state.loads[key] === load { state.loads[key] = nil }
      }
      throw Failure(.cancelled, "the request was cancelled")
    }
    let model = try outcome.get()
    state.withLock { state in
      pin(model, &state)
      evict(&state)
    }
    return model
  }

  // MARK: What is there

  struct Report: Sendable {
    struct Model: Sendable {
      let (path, format): (String, String)
      let (bytes, derivedBytes, hits, pins): (Int, Int, Int, Int)
    }
    /// Ordered by path.
    let models: [Model]
    let (bytes, budgetBytes, hits, misses, evictions): (Int, Int, Int, Int, Int)
  }

  func report() -> Report {
    let (entries, hits, misses, evictions) = state.withLock { state in
      (state.entries.values.map { ($0.model, $0.hits, $0.pins) }, state.hits, state.misses, state.evictions)
    }
    let models = entries.map { model, hits, pins in
      Report.Model(
        path: model.key.path, format: model.document.description.format, bytes: model.bytes,
        derivedBytes: model.compressible.derivedBytes, hits: hits, pins: pins)
    }
    return Report(
      models: models.sorted { $0.path < $1.path }, bytes: models.reduce(0) { $0 + $1.bytes },
      budgetBytes: budgetBytes, hits: hits, misses: misses, evictions: evictions)
  }

  /// Drops the models of one file, or all. What is in use is freed when its last request ends.
  /// - Returns: the paths of what was dropped.
  func release(path: String?) -> [String] {
    let canonical = path.map { canonicalPath($0) ?? $0 }
    return state.withLock { state in
      let keys = state.entries.keys.filter { canonical == nil || $0.path == canonical }
      for key in keys { state.entries[key] = nil }
      return Set(keys.map(\.path)).sorted()
    }
  }
}

private func canonical(_ path: String) throws(Failure) -> String {
  guard let canonical = canonicalPath(path) else { throw .cannotOpen(path, errno) }
  return canonical
}

extension Failure.Kind {
  /// Whether the same bytes would fail in the same way again.
  fileprivate var isAboutTheBytes: Bool {
    switch self {
    case .modelUnsupportedFormat, .modelMalformed, .modelUnsupportedOperator, .modelUnsafe: true
    default: false
    }
  }
}
