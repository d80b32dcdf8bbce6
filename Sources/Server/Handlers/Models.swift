import JSON
import JSONRPC

/// `models`: what is kept warm.
func handleModels(_ session: Session, _ params: Params) throws(ResponseError) -> JSONValue {
  let report = session.server.cache.report()
  return [
    "models": .array(
      report.models.map { model in
        [
          "path": .string(model.path), "format": .string(model.format), "bytes": .int(model.bytes),
          "derived_bytes": .int(model.derivedBytes), "hits": .int(model.hits), "in_use": .int(model.pins),
        ]
      }),
    "bytes": .int(report.bytes), "budget_bytes": .int(report.budgetBytes),
    "hits": .int(report.hits), "misses": .int(report.misses), "evictions": .int(report.evictions),
  ]
}
