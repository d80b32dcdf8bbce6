import Foundation
import ModelGraph
import Runtime
import Synchronization
import TestSupport
import Testing

/// A cancelled caller is answered at once, whatever the library is in the middle of.
@Suite(.serialized) struct CancellationTests {
  /// `count` times x = x * x for a square of `n`, some `2 * n^3` operations each.
  private func products(_ count: Int, _ n: Int) throws -> (InferenceSession, Tensor) {
    let nodes = (0..<count).flatMap { Proto.node("MatMul", ["x\($0)", "x\($0)"], ["x\($0 + 1)"]).bytes }
    let model = Proto.model(.input("x0", .float32, [.fixed(n), .fixed(n)]) + Proto(raw: nodes) + .output("x\(count)"))
    return (try session(model), Tensor(float32: [Float](repeating: 0, count: n * n), shape: [n, n]))
  }

  /// Seconds from the cancellation, `delay` ms after the start, until `body` throws that it was cancelled.
  private func secondsToLeave(after delay: UInt32, _ body: (Work) throws -> Void) throws -> Double {
    let work = Work()
    let cancelled = Mutex<ContinuousClock.Instant?>(nil)
    Thread.detachNewThread {
      usleep(delay * 1000)
      cancelled.withLock { $0 = .now }
      work.cancellation.set()
    }
    let failure = try failure { try body(work) }
    let end = ContinuousClock.now
    #expect(failure?.kind == .cancelled)
    return (end - (try #require(cancelled.withLock { $0 }))) / .seconds(1)
  }

  @Test("Within one long operator")
  func withinAnOperator() throws {
    let (session, x) = try products(1, 4096)
    // The product takes a second at best, and goes on by itself.
    #expect(try secondsToLeave(after: 30) { _ = try session.run(["x0": x], outputs: ["x1"], work: $0) } < 0.3)
  }

  @Test("Between operators, and the run that was left ends soon")
  func betweenOperators() throws {
    let (session, x) = try products(2000, 512)
    final class Owner {}
    weak var owner: Owner?
    func runAndLeave() throws {
      let keeper = Owner()
      owner = keeper
      let input = Tensor(
        dtype: .float32, shape: x.shape,
        bytes: TensorBytes(base: x.bytes.base, count: x.bytes.count, owner: keeper))
      #expect(try secondsToLeave(after: 30) { _ = try session.run(["x0": input], outputs: ["x2000"], work: $0) } < 0.3)
    }
    try runAndLeave()
    // 2000 products take ten seconds; their input is let go when the run is over.
    let deadline = ContinuousClock.now + .seconds(2)
    while owner != nil, ContinuousClock.now < deadline { usleep(1000) }
    #expect(owner == nil)
  }

  @Test("While a model is loaded")
  func whileLoading() throws {
    let count = 30_000
    let nodes = (0..<count).flatMap { Proto.node("Neg", ["x\($0)"], ["x\($0 + 1)"]).bytes }
    let model = Proto.model(.input("x0", .float32, [1]) + Proto(raw: nodes) + .output("x\(count)"))
    let runtime = try runtime()
    #expect(
      try secondsToLeave(after: 5) { work in
        _ = try InferenceSession(.bytes(model), runtime: runtime, work: work)
      } < 0.3)
  }

  @Test("Before anything begins")
  func before() throws {
    let (session, x) = try products(1, 8)
    let work = Work()
    work.cancellation.set()
    #expect(try failure { _ = try session.run(["x0": x], outputs: ["x1"], work: work) }?.kind == .cancelled)
  }

  @Test("Between batches, with progress by samples")
  func betweenBatches() throws {
    let session = try session(
      Proto.model(.input("x", .float32, [2, 3]) + .node("Neg", ["x"], ["y"]) + .output("y")))
    let source = try GeneratedInputs([.init(name: "x", dtype: .float32, shape: [2, 3])], batches: 8, seed: 1)
    let fractions = Mutex<[Double]>([])
    let work = Work { fraction, _ in fractions.withLock { $0.append(fraction) } }
    var batches = 0
    let failure = try failure {
      try session.forEachBatch(of: source, outputs: ["y"], work: work) { batch, outputs in
        #expect(batch.samples == batches * 2..<batches * 2 + 2)
        #expect(outputs["y"]?.elements(Float.self) == batch.inputs["x"]?.elements(Float.self).map { -$0 })
        batches += 1
        if batches == 3 { work.cancellation.set() }
      }
    }
    #expect(failure?.kind == .cancelled)
    #expect(batches == 3)
    #expect(fractions.withLock { $0 } == [0.125, 0.25])
  }

  @Test("A handler runs once: at the setting, or at once if that was before, and not after its body")
  func handlers() {
    let calls = Atomic(0)
    let handler: @Sendable () -> Void = { calls.add(1, ordering: .relaxed) }
    let flag = CancellationFlag()
    flag.withHandler(handler) {}
    #expect(calls.load(ordering: .relaxed) == 0)
    flag.withHandler(handler) {
      flag.set()
      flag.set()
    }
    #expect(calls.load(ordering: .relaxed) == 1)
    flag.withHandler(handler) { #expect(calls.load(ordering: .relaxed) == 2) }
    #expect(calls.load(ordering: .relaxed) == 2)
  }
}
