import JSONRPC

extension Params {
  /// The member `dataset_path`: a .npy or .npz file or a folder of them, which is not looked at here.
  func datasetPath() throws(ResponseError) -> WirePath? { try path("dataset_path") }
}
