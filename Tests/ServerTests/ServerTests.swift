import Testing
import Server
