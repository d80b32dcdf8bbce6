import Glibc
import ModelGraph
import Synchronization

/// Finds ONNX Runtime when it is first needed, loads it, and gives the same one to everybody from then on.
///
/// A failure is not kept: whoever installs the package meanwhile may ask again.
package final class RuntimeLoader: Sendable {
  /// What a client knows of where the library is.
  package struct Hint: Sendable, Hashable {
    /// The library or a directory that holds it.
    package var library: String?
    /// The prefix or the executable of the Python that the client runs in.
    package var python: String?

    package init(library: String? = nil, python: String? = nil) { (self.library, self.python) = (library, python) }
  }

  private struct State {
    /// The latest first.
    var hints: [Hint] = []
    var runtime: ONNXRuntime?
  }

  private let option: String?
  private let environment: @Sendable (String) -> String?
  private let state = Mutex(State())
  private static let maximumHints = 16

  /// - Parameters:
  ///   - option: the place named on the command line.
  ///   - environment: the process's variables, unless a test says otherwise.
  package init(
    option: String? = nil,
    environment: @escaping @Sendable (String) -> String? = { getenv($0).map { String(cString: $0) } }
  ) {
    (self.option, self.environment) = (option, environment)
  }

  /// Takes note of what a client says. Changes nothing once the library is loaded.
  package func suggest(_ hint: Hint) {
    guard hint != Hint() else { return }
    state.withLock { state in
      state.hints.removeAll { $0 == hint }
      state.hints.insert(hint, at: 0)
      state.hints = Array(state.hints.prefix(Self.maximumHints))
    }
  }

  /// The runtime, loading it if need be, which takes some 20 to 150 ms.
  /// - Throws: `Failure(.runtimeUnavailable)` that says what was looked at and how to install it, or cancelled.
  package func runtime(work: Work) throws(Failure) -> ONNXRuntime {
    if let runtime = state.withLock({ $0.runtime }) { return runtime }
    return try detached(work: work) { [self] () throws(Failure) in
      // Under the lock, so that two first requests load one library.
      try state.withLock { state throws(Failure) in
        if let runtime = state.runtime { return runtime }
        let runtime = try load(state.hints)
        state.runtime = runtime
        return runtime
      }
    }
  }

  private func search(_ hints: [Hint]) -> (search: RuntimeSearch, place: RuntimeSearch.NamedPlace?) {
    let named = [
      option.map { RuntimeSearch.NamedPlace(source: "--onnxruntime", path: $0) },
      hints.lazy.compactMap(\.library).first.map {
        RuntimeSearch.NamedPlace(source: "initializationOptions.onnxruntime", path: $0)
      },
      environment("ESPALIER_ONNXRUNTIME").flatMap {
        $0.isEmpty ? nil : RuntimeSearch.NamedPlace(source: "ESPALIER_ONNXRUNTIME", path: $0)
      },
    ]
    if let place = named.lazy.compactMap(\.self).first { return (RuntimeSearch(named: place), place) }
    return (RuntimeSearch(pythons: hints.compactMap(\.python), environment: environment), nil)
  }

  private func load(_ hints: [Hint]) throws(Failure) -> ONNXRuntime {
    let (search, place) = search(hints)
    var refused: [String] = []
    for path in search.candidates {
      do throws(ONNXRuntime.LoadError) {
        return try ONNXRuntime(path: path)
      } catch {
        switch error {
        case .tooOld(let found):
          refused.append("\(path) is too old (\(found); \(ONNXRuntime.minimumVersion) or newer is needed)")
        case .unloadable(let reason): refused.append("\(path) cannot be loaded: \(reason)")
        }
      }
    }
    let found =
      if !refused.isEmpty {
        refused.joined(separator: "; ")
      } else if let place {
        "\(place.source) names \(place.path), where there is none"
      } else {
        "none was found in \(search.searched.isEmpty ? "any place" : search.searched.joined(separator: ", "))"
      }
    throw Failure(
      .runtimeUnavailable,
      """
      this needs ONNX Runtime: \(found). Install it with 'pip install onnxruntime' in the Python environment the client \
      runs in, or name the library with --onnxruntime or ESPALIER_ONNXRUNTIME
      """,
      details: [
        "searched": .strings(search.searched), "refused": .strings(refused),
        "install": .string("pip install onnxruntime"),
      ])
  }
}
