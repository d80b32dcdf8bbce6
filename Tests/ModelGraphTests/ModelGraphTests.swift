import Testing
import ModelGraph
