import Glibc
import ModelGraph

/// Where to look for ONNX Runtime's library. Looking opens directories and executes nothing.
///
/// Somebody who names a place means that place: what is there is used, or the reason why it cannot be is the answer.
/// Where nobody names one, Python environments are looked through for the package onnxruntime, the likeliest first.
struct RuntimeSearch {
  /// A place somebody named, and how.
  struct NamedPlace: Sendable, Hashable {
    /// "--onnxruntime", ...
    let source: String
    let path: String
  }

  /// Files to try, in this order.
  var candidates: [String] = []
  /// Places that were looked at and had nothing, for the message.
  var searched: [String] = []

  /// A library, or a directory that holds it: by itself, as a Python environment or as an unpacked release.
  init(named place: NamedPlace) {
    var info = stat()
    guard stat(place.path, &info) == 0 else {
      searched = [place.path]
      return
    }
    if info.st_mode & S_IFMT == S_IFREG {
      // Without a slash the dynamic linker would look for the name elsewhere.
      candidates = [place.path.contains("/") ? place.path : "./\(place.path)"]
      return
    }
    look(in: place.path)
    look(in: place.path + "/capi")
    look(in: place.path + "/onnxruntime/capi")
    look(in: place.path + "/lib")
    lookThroughEnvironment(place.path)
  }

  /// - Parameters:
  ///   - pythons: what clients said of the Python they run in, a prefix or an executable each.
  ///   - environment: the daemon's own environment variables.
  init(pythons: [String], environment: (String) -> String?) {
    for python in pythons { lookThroughPython(python) }
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
      if let prefix = environment(name), !prefix.isEmpty { lookThroughEnvironment(prefix) }
    }
    for directory in (environment("PATH") ?? "").split(separator: ":") where directory.hasPrefix("/") {
      for name in ["python3", "python"] where access("\(directory)/\(name)", X_OK) == 0 {
        lookThroughPython("\(directory)/\(name)")
      }
    }
    if let home = environment("HOME"), home.hasPrefix("/") { lookThroughEnvironment(home + "/.local") }
    for directory in ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"] {
      look(in: directory)
    }
  }

  // MARK: Python

  /// An environment by its prefix or its executable, then the Python it was made with, from which it may borrow.
  private mutating func lookThroughPython(_ path: String) {
    var info = stat()
    guard stat(path, &info) == 0 else {
      searched.append(path)
      return
    }
    let isDirectory = info.st_mode & S_IFMT == S_IFDIR
    lookThroughEnvironment(isDirectory ? path : prefix(ofExecutable: path))
    if let resolved = realpath(isDirectory ? path + "/bin/python3" : path, nil) {
      defer { free(resolved) }
      lookThroughEnvironment(prefix(ofExecutable: String(cString: resolved)))
    }
  }

  /// "/usr/bin/python3" to "/usr".
  private func prefix(ofExecutable path: String) -> String {
    "/" + path.split(separator: "/").dropLast(2).joined(separator: "/")
  }

  private mutating func lookThroughEnvironment(_ prefix: String) {
    let prefix = prefix == "/" ? "" : prefix
    // Debian's own Python has its packages in dist-packages, and what pip installs beside it under local/.
    for library in ["lib", "lib64", "local/lib"] {
      for python in names(in: "\(prefix)/\(library)") where python.hasPrefix("python3") {
        for packages in ["site-packages", "dist-packages"] {
          let directory = "\(prefix)/\(library)/\(python)/\(packages)"
          if access(directory, F_OK) == 0 { look(in: "\(directory)/onnxruntime/capi") }
        }
      }
    }
  }

  // MARK: Directories

  /// The newest library in a directory.
  private mutating func look(in directory: String) {
    guard !searched.contains(directory) else { return }
    let libraries = names(in: directory).filter {
      $0 == "libonnxruntime.so" || $0.hasPrefix("libonnxruntime.so.")
    }
    // Links to one file are one; which name is taken does not matter.
    guard let newest = libraries.max(by: { version($0).lexicographicallyPrecedes(version($1)) }) else {
      searched.append(directory)
      return
    }
    let path = "\(directory)/\(newest)"
    if !candidates.contains(path) { candidates.append(path) }
  }

  private func version(_ name: String) -> [Int] { name.split(separator: ".").compactMap { Int($0) } }
}

/// The names in a directory, sorted; none if it cannot be read.
func names(in directory: String) -> [String] {
  // An entry ends with its name, so that the field as Swift sees it, of 256 bytes, must not be copied.
  guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name), let stream = opendir(directory) else { return [] }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    let name = String(cString: (UnsafeRawPointer(entry) + nameOffset).assumingMemoryBound(to: CChar.self))
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}
