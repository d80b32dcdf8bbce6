import Testing
import Compression
