import Testing
import Numerics
