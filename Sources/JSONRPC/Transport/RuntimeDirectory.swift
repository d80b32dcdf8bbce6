import Glibc

/// The directory in which a user's daemons put their sockets. Who may write there may pose as the daemon, so that it
/// must be the user's own: modes of sockets are advice on some systems, those of directories are not.
package enum RuntimeDirectory {
  /// `$XDG_RUNTIME_DIR/<name>`, or `<name>-<uid>` in the directory for temporary files.
  package static func path(named name: String) -> String {
    if let directory = environment("XDG_RUNTIME_DIR") { return "\(directory)/\(name)" }
    return "\(environment("TMPDIR") ?? "/tmp")/\(name)-\(getuid())"
  }

  /// The directory that holds the socket at `path`.
  package static func containing(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Makes the directory, for this user only, unless it exists.
  package static func create(_ path: String) throws(SocketError) {
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw .system("cannot make the directory \(path)", errno) }
  }

  /// - Throws: if anybody but this user could put a socket there.
  package static func check(_ path: String) throws(SocketError) {
    var info = stat()
    guard lstat(path, &info) == 0 else { throw .system("cannot look at the directory \(path)", errno) }
    let problem: String? =
      if info.st_mode & S_IFMT == S_IFLNK {
        "it is a symbolic link"
      } else if info.st_mode & S_IFMT != S_IFDIR {
        "it is no directory"
      } else if info.st_uid != getuid() {
        "it belongs to another user"
      } else if info.st_mode & 0o022 != 0 {
        "other users can write to it"
      } else {
        nil
      }
    if let problem {
      throw .unsafe("no socket is made in \(path): \(problem); use a directory of your own with mode 0700")
    }
  }

  /// Relative values are invalid by the standard that defines the first of these variables.
  private static func environment(_ name: String) -> String? {
    guard let value = getenv(name).map({ String(cString: $0) }), value.hasPrefix("/") else { return nil }
    return value
  }
}

/// Why a socket could not be made.
package enum SocketError: Error, CustomStringConvertible {
  /// Somebody listens there already.
  case inUse(String)
  case unsafe(String)
  case system(String, Int32)

  package var description: String {
    switch self {
    case .inUse(let path): "another daemon listens on \(path)"
    case .unsafe(let reason): reason
    case .system(let action, let code): "\(action): \(String(cString: strerror(code)))"
    }
  }
}
