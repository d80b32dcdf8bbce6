import Glibc
import JSONRPC
import Testing

/// Where sockets may be, and who gets one.
final class UnixSocketListenerTests {
  private let directory: String

  init() throws {
    var template = Array("/tmp/espalier-test-XXXXXX".utf8CString)
    directory = String(cString: try #require(mkdtemp(&template)))
  }

  deinit {
    for name in ["a.sock", "a.sock.lock", "link", "open/a.sock", "open/a.sock.lock", "file"] {
      unlink("\(directory)/\(name)")
    }
    rmdir("\(directory)/open")
    rmdir(directory)
  }

  private func refusal(_ path: String) -> String? {
    do throws(SocketError) {
      _ = try UnixSocketListener(path: path)
      return nil
    } catch {
      return error.description
    }
  }

  @Test func isForThisUserOnly() throws {
    let listener = try UnixSocketListener(path: "\(directory)/a.sock")
    var info = stat()
    #expect(lstat(listener.path, &info) == 0)
    #expect(info.st_mode & 0o777 == 0o600)
    listener.stop()
    #expect(lstat(listener.path, &info) != 0)
    guard case .stopped = listener.accept(waiting: 5) else {
      Issue.record("a stopped listener accepts")
      return
    }
  }

  @Test("The second daemon is told that there is one; a socket left behind is replaced (S1)")
  func oneAtATime() throws {
    let path = "\(directory)/a.sock"
    let first = try UnixSocketListener(path: path)
    #expect(refusal(path)?.contains("another daemon") == true)
    #expect(access(path, F_OK) == 0, "the refused one must not remove the other's socket")
    // What a killed daemon leaves: a socket nobody listens on, and a lock nobody holds.
    first.stop()
    let stale = "\(directory)/stale.sock"
    let left = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    bindStale(left, stale)
    close(left)
    let second = try UnixSocketListener(path: stale)
    second.stop()
    unlink("\(stale).lock")
  }

  private func bindStale(_ descriptor: Int32, _ path: String) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let status = withUnsafePointer(to: address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(status == 0)
  }

  @Test("Places where others could pose as the daemon are refused (S4)")
  func unsafePlaces() throws {
    #expect(refusal("\(directory)/\(String(repeating: "a", count: 200))")?.contains("shorter") == true)
    #expect(mkdir("\(directory)/open", 0o700) == 0)
    #expect(chmod("\(directory)/open", 0o777) == 0)
    #expect(refusal("\(directory)/open/a.sock")?.contains("other users can write") == true)
    #expect(chmod("\(directory)/open", 0o700) == 0)
    #expect(symlink("\(directory)/open", "\(directory)/link") == 0)
    #expect(refusal("\(directory)/link/a.sock")?.contains("symbolic link") == true)
    #expect(refusal("\(directory)/missing/a.sock") != nil)
    close(open("\(directory)/file", O_CREAT | O_WRONLY, 0o600))
    #expect(refusal("\(directory)/file")?.contains("no socket") == true)
  }
}
