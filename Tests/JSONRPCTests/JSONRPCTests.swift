import Testing
import JSONRPC
