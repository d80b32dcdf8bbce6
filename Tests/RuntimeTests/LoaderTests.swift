import Foundation
import ModelGraph
import Runtime
import TestSupport
import Testing

/// Where the library is looked for, in which order, and what is said when it is not there.
struct LoaderTests {
  private let scratch: Scratch
  private let library: String

  init() throws {
    scratch = try Scratch()
    library = try runtime().path
  }

  /// A link to the real library under `directory`.
  @discardableResult
  private func install(_ directory: String, _ name: String = "libonnxruntime.so.1.99.0") throws -> String {
    try FileManager.default.createDirectory(atPath: scratch[directory], withIntermediateDirectories: true)
    let path = scratch["\(directory)/\(name)"]
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: library)
    return path
  }

  private func loader(
    option: String? = nil, _ variables: [String: String] = [:], hints: [RuntimeLoader.Hint] = []
  ) -> RuntimeLoader {
    let loader = RuntimeLoader(option: option) { variables[$0] }
    for hint in hints { loader.suggest(hint) }
    return loader
  }

  private func found(_ loader: RuntimeLoader) throws -> String {
    try loader.runtime(work: Work()).path
  }

  private func refusal(_ loader: RuntimeLoader) throws -> Failure {
    let failure = try #require(try failure { _ = try loader.runtime(work: Work()) })
    #expect(failure.kind == .runtimeUnavailable)
    #expect(failure.message.contains("pip install onnxruntime"))
    return failure
  }

  private let packages = "lib/python3.11/site-packages/onnxruntime/capi"

  @Test("A named place is a file, its directory, an environment or a release")
  func named() throws {
    let file = try install("env/\(packages)")
    let release = try install("release/lib")
    let places = [
      (file, file), ("env/\(packages)", file), ("env/lib/python3.11/site-packages/onnxruntime", file),
      ("env/lib/python3.11/site-packages", file), ("env", file), ("release", release), ("release/lib", release),
    ]
    for (place, path) in places {
      let place = place.hasPrefix("/") ? place : scratch[place]
      #expect(try found(loader(option: place)) == path, "\(place)")
      #expect(try found(loader(["ESPALIER_ONNXRUNTIME": place])) == path)
      #expect(try found(loader(hints: [.init(library: place)])) == path)
    }
  }

  @Test("The option goes before the client's word, that before the environment, all before what is searched")
  func order() throws {
    let paths = try ["a", "b", "c", "d"].map { try install("\($0)/\(packages)") }
    let hint = RuntimeLoader.Hint(library: scratch["b"], python: scratch["d"])
    let variables = ["ESPALIER_ONNXRUNTIME": scratch["c"]]
    #expect(try found(loader(option: scratch["a"], variables, hints: [hint])) == paths[0])
    #expect(try found(loader(variables, hints: [hint])) == paths[1])
    #expect(try found(loader(variables, hints: [.init(python: scratch["d"])])) == paths[2])
    #expect(try found(loader(hints: [.init(python: scratch["d"])])) == paths[3])
    #expect(try found(loader(hints: [.init(library: scratch["a"]), hint])) == paths[1])
  }

  @Test("Environments are known by prefix, executable, variables and PATH; the newest library is taken")
  func searched() throws {
    let files = FileManager.default
    try install("env/\(packages)", "libonnxruntime.so.1.9.0")
    let path = try install("env/\(packages)", "libonnxruntime.so.1.30.0")
    try install("env/\(packages)", "libonnxruntime_providers_shared.so")
    for directory in ["env/bin", "borrower/bin", "shims"] {
      try files.createDirectory(atPath: scratch[directory], withIntermediateDirectories: true)
    }
    let python = scratch["env/bin/python3"]
    #expect(files.createFile(atPath: python, contents: nil, attributes: [.posixPermissions: 0o755]))
    // As `python -m venv` links to the Python it was made with.
    try files.createSymbolicLink(atPath: scratch["borrower/bin/python3"], withDestinationPath: python)
    for hint in [scratch["env"], python, scratch["borrower"], scratch["borrower/bin/python3"]] {
      #expect(try found(loader(hints: [.init(python: hint)])) == path)
    }
    for variables in [
      ["VIRTUAL_ENV": scratch["env"]], ["CONDA_PREFIX": scratch["env"]],
      ["PATH": "relative:/nowhere:\(scratch["env/bin"])"],
      ["PATH": scratch["borrower/bin"]],
    ] { #expect(try found(loader(variables)) == path) }
    let debian = try install("debian/local/lib/python3.11/dist-packages/onnxruntime/capi")
    #expect(try found(loader(hints: [.init(python: scratch["debian"])])) == debian)
    let user = try install("home/.local/lib/python3.12/site-packages/onnxruntime/capi")
    #expect(try found(loader(["HOME": scratch["home"]])) == user)
  }

  @Test("A named place without a library is not made up for by a search")
  func missing() throws {
    try install("env/\(packages)")
    let failure = try refusal(loader(option: scratch["none"], ["VIRTUAL_ENV": scratch["env"]]))
    #expect(failure.message.contains("--onnxruntime names \(scratch["none"])"))
    #expect(failure.details["searched"] == .strings([scratch["none"]]))
  }

  @Test("What is no library is refused with the linker's reason, and what is found after it is taken")
  func noLibrary() throws {
    let text = try scratch.write([UInt8](repeating: 0x20, count: 1000), "libonnxruntime.so")
    #expect(try refusal(loader(option: text)).message.contains("invalid ELF header"))
    #expect(try refusal(loader(option: "/lib/x86_64-linux-gnu/libm.so.6")).message.contains("OrtGetApiBase"))
    let path = try install("good/\(packages)")
    try FileManager.default.createDirectory(atPath: scratch["bad/\(packages)"], withIntermediateDirectories: true)
    try scratch.write([], "bad/\(packages)/libonnxruntime.so.2")
    #expect(try found(loader(["VIRTUAL_ENV": scratch["bad"], "CONDA_PREFIX": scratch["good"]])) == path)
  }

  @Test("A library that is too old says which version it is and which is needed")
  func tooOld() throws {
    let source = try scratch.write(
      Array(
        """
        static const void *api(unsigned version) { return 0; }
        static const char *version(void) { return "1.15.1"; }
        static struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {api, version};
        const void *OrtGetApiBase(void) { return &base; }
        """.utf8), "old.c")
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments = ["clang", "-shared", "-fPIC", "-w", source, "-o", scratch["libonnxruntime.so"]]
    try compiler.run()
    compiler.waitUntilExit()
    try #require(compiler.terminationStatus == 0)
    let failure = try refusal(loader(option: scratch.path))
    #expect(failure.message.contains("too old (it is version 1.15.1; 1.16 or newer is needed)"), "\(failure)")
  }

  @Test("One library is loaded however many ask, and a failure is not kept")
  func once() throws {
    let loader = loader(option: scratch["env"])
    _ = try refusal(loader)
    try install("env/\(packages)")
    let runtimes = (0..<8).map { _ in try? loader.runtime(work: Work()) }
    #expect(runtimes.allSatisfy { $0 != nil && $0 === runtimes[0] })
    #expect(runtimes[0]?.version.split(separator: ".").count == 3)
  }
}
