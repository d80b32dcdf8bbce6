import ModelGraph
import Runtime
import Testing

struct SessionTests {
  @Test func runtimeIsFound() throws {
    let runtime = try runtime()
    #expect(runtime.version.hasPrefix("1."))
    #expect(try loader.runtime(work: Work()) === runtime)
  }
}
