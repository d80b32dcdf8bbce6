/// The modules that a call was made in, as an exported program's metadata names them:
/// `L__self__,,pkg.Net;L__self__layer1,layer1,pkg.Block`, outermost first, each by key, path and class. Only messages and
/// layer names use it, so that text of another form gives no path instead of an error.
enum ModuleStack {
  /// The path of the innermost module; empty where the call belongs to the model itself or to none.
  static func innermostPath(_ text: String) -> String {
    guard let last = text.split(separator: ";").last else { return "" }
    let fields = last.split(separator: ",", maxSplits: 2, omittingEmptySubsequences: false)
    guard fields.count == 3, !fields[1].hasPrefix("_empty_nn_module_stack") else { return "" }
    // The second call of a module is "relu@1".
    let path = fields[1].prefix { $0 != "@" }
    return path.contains { $0 == "[" || $0 == "'" || $0 == " " } ? "" : String(path)
  }
}
