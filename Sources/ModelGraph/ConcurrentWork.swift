import Synchronization
import Threads

extension Work {
  /// `body` of every item, in order, worked out by as many threads as the work may keep busy, the costliest items
  /// first.
  ///
  /// A result depends on its item alone, so that the number of threads changes nothing but the time. Progress counts
  /// `cost`; cancellation is looked at before every item, and by `body`.
  /// - Parameter threads: the most that gain anything.
  /// - Throws: what `body` threw for the first of the items at fault.
  package func concurrentMap<Item: Sendable, Result: Sendable>(
    _ items: [Item], threads most: Int = .max, cost: (Item) -> Double, naming: @escaping @Sendable (Item) -> String,
    _ body: @escaping @Sendable (Item, Work) throws(Failure) -> Result
  ) throws(Failure) -> [Result] {
    let costs = items.map { max(1, cost($0)) }
    let total = costs.reduce(0, +)
    let order = items.indices.sorted { (costs[$1], $0) < (costs[$0], $1) }
    let state = Mutex(ConcurrentState<Result>(results: Array(repeating: nil, count: items.count)))
    // Threads for which there is no item may help within one.
    let silent = Work(cancellation: cancellation, threads: threads / max(1, items.count))
    let run: @Sendable () -> Void = { [self] in
      while let index = state.withLock({ state -> Int? in
        guard state.failure == nil, state.next < order.count else { return nil }
        defer { state.next += 1 }
        return order[state.next]
      }) {
        do throws(Failure) {
          try checkCancellation()
          let result = try body(items[index], silent)
          let done = state.withLock { state in
            state.results[index] = result
            state.done += costs[index]
            return state.done
          }
          progress(done / total, naming(items[index]))
        } catch {
          state.withLock { if index <= $0.failure?.index ?? index { $0.failure = (index, error) } }
        }
      }
    }
    let helpers = Monitor(0)
    for _ in 1..<max(1, min(threads, most, items.count)) {
      helpers.update { $0 += 1 }
      let isStarted = startThread(stackBytes: concurrentStackBytes) {
        run()
        helpers.update { $0 -= 1 }
      }
      // Where the system has no thread to give, the others do its work.
      if !isStarted { helpers.update { $0 -= 1 } }
    }
    run()
    _ = helpers.wait { $0 == 0 ? true : nil }
    return try state.withLock { state throws(Failure) in
      if let failure = state.failure?.failure { throw failure }
      return state.results.compactMap { $0 }
    }
  }
}

/// Numeric kernels use their stacks.
let concurrentStackBytes = 8 << 20

private struct ConcurrentState<Result> {
  var results: [Result?]
  var failure: (index: Int, failure: Failure)?
  /// How many items have been begun.
  var next = 0
  /// What the finished ones cost.
  var done = 0.0
}
