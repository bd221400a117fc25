"""Run -> artifact: merged, GGUF, ONNX, LiteRT, each verified in the program that will run it."""
