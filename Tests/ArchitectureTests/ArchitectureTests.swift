import Foundation
import Testing

// The manifest and the import lines against the picture of the modules: arrows point down only, foreign libraries have
// one door each, and nothing in the daemon drags Foundation in.

/// What each module may know: of the module graph itself, and of libraries.
private let allowed: [String: Set<String>] = [
  "CDeflate": [], "CFileGuard": [], "CHDF5": [], "CJansson": [], "CLinux": [], "CONNXRuntime": [], "COpenBLAS": [],
  "CZlib": [],
  "Numerics": ["COpenBLAS"],
  "ModelGraph": ["Numerics", "Threads"],
  "Compression": ["ModelGraph", "Numerics"],
  "Formats": ["CDeflate", "CFileGuard", "CLinux", "CZlib", "Compression", "JSON", "ModelGraph", "Numerics", "Threads"],
  "Runtime": ["CONNXRuntime", "CZlib", "ModelGraph", "Threads"],
  "Threads": [],
  "JSON": ["CJansson"],
  "JSONRPC": ["CLinux", "JSON", "Threads"],
  "Server": ["CLinux", "Compression", "Formats", "JSON", "JSONRPC", "Logging", "ModelGraph", "Runtime", "Threads"],
  "espalier-hdf5": ["CHDF5"],
  "espalierd": ["JSON", "JSONRPC", "Logging", "Server"],
]

/// Libraries with a single door.
private let doors: [String: Set<String>] = [
  "CJansson": ["JSON"], "CFileGuard": ["Formats"], "CHDF5": ["espalier-hdf5"],
  "CLinux": ["Formats", "JSONRPC", "Server"],
  "CDeflate": ["Formats"], "CONNXRuntime": ["Runtime"], "COpenBLAS": ["Numerics"], "CZlib": ["Formats", "Runtime"],
  "Logging": ["Server", "espalierd"],
]

/// Part of the toolchain, free for all. Foundation is not: it costs start-up time and memory.
private let toolchain: Set<String> = ["Glibc", "Synchronization"]

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// The targets of the manifest with their dependencies by name, tests left out.
private func manifestTargets() throws -> [String: Set<String>] {
  let text = try String(contentsOf: root.appending(path: "Package.swift"), encoding: .utf8)
  let target = /\.(?<kind>target|executableTarget|systemLibrary)\(\s*name: "(?<name>[\w-]+)"/
  let starts = Array(text.matches(of: target))
  var result: [String: Set<String>] = [:]
  for (k, match) in starts.enumerated() {
    var end = k + 1 < starts.count ? starts[k + 1].range.lowerBound : text.endIndex
    if let test = text[match.range.upperBound..<end].range(of: ".testTarget(") { end = test.lowerBound }
    let body = text[match.range.upperBound..<end]
    guard !body.contains("path: \"Tests/") else { continue }
    var names: Set<String> = []
    // The list runs to the first bracket that closes it: product references hold none.
    if let list = body.firstMatch(of: /dependencies: \[(?<list>[^\]]*)\]/) {
      for product in list.list.matches(of: /\.product\(name: "(?<name>\w+)", package: "[^"]+"\)/) {
        names.insert(String(product.name))
      }
      let plain = list.list.replacing(/\.product\([^)]*\)/, with: "")
      for name in plain.matches(of: /"(?<name>\w+)"/) { names.insert(String(name.name)) }
    }
    result[String(match.name)] = names
  }
  return result
}

/// Per module, the modules that its files import.
private func imports() throws -> [(module: String, file: String, imported: String)] {
  let sources = root.appending(path: "Sources")
  let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
  var result: [(module: String, file: String, imported: String)] = []
  for case let file as URL in files where file.pathExtension == "swift" {
    let path = file.path(percentEncoded: false).dropFirst(sources.path(percentEncoded: false).count)
    let module = try #require(path.split(separator: "/").first)
    let line =
      /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(?<name>\w+)/
    for match in try String(contentsOf: file, encoding: .utf8).matches(of: line.anchorsMatchLineEndings()) {
      result.append((String(module), String(path), String(match.name)))
    }
  }
  return result
}

@Suite("Architecture") struct ArchitectureTests {
  @Test("The manifest's arrows are the allowed ones, and no module is left out of the picture")
  func manifest() throws {
    let targets = try manifestTargets()
    #expect(Set(targets.keys) == Set(allowed.keys))
    for (name, dependencies) in targets { #expect(dependencies == allowed[name], "dependencies of \(name)") }
  }

  @Test("No chain of arrows leads back to where it began")
  func noCycle() {
    var settled: Set<String> = Set(doors.keys)
    while let next = allowed.keys.sorted().first(where: { name in
      !settled.contains(name) && (allowed[name] ?? []).isSubset(of: settled)
    }) { settled.insert(next) }
    #expect(settled.isSuperset(of: allowed.keys))
  }

  @Test("Files import what their module may know, and nothing else")
  func importLines() throws {
    let all = try imports()
    #expect(Set(all.map(\.module)).isSuperset(of: ["Compression", "Formats", "JSONRPC", "ModelGraph", "Server"]))
    for entry in all where !toolchain.contains(entry.imported) {
      #expect(allowed[entry.module]?.contains(entry.imported) == true, "\(entry.file) imports \(entry.imported)")
    }
  }

  @Test("Libraries have their doors")
  func libraries() throws {
    for entry in try imports() {
      if let door = doors[entry.imported] {
        #expect(door.contains(entry.module), "\(entry.file) imports \(entry.imported)")
      }
    }
  }

  @Test("Neither Foundation nor testability in the sources")
  func noFoundation() throws {
    let all = try imports()
    #expect(!all.isEmpty)
    #expect(all.filter { $0.imported.hasPrefix("Foundation") }.map(\.file) == [])
  }
}
