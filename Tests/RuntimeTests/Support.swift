import Glibc
import ModelGraph
import Runtime
import Testing

/// The library of `make test`'s virtual environment, or whatever else is found. Without one the tests fail.
let loader = RuntimeLoader()

func runtime() throws -> ONNXRuntime { try loader.runtime(work: Work()) }
