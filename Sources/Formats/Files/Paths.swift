import Glibc

/// What the system makes of paths: one name per file, and the parts of a name.

/// The path without symbolic links, `.` and `..`; nil with `errno` set if it leads nowhere.
package func canonicalPath(_ path: String) -> String? {
  guard let resolved = realpath(path, nil) else { return nil }
  defer { free(resolved) }
  return String(cString: resolved)
}

/// Directory and last component; the directory of a bare name is ".".
func splitPath(_ path: String) -> (directory: String, name: String) {
  guard let slash = path.lastIndex(of: "/") else { return (".", path) }
  let directory = path[..<slash]
  return (directory.isEmpty ? "/" : String(directory), String(path[path.index(after: slash)...]))
}
