"""The steps of benchmarks/gpu.py, a function each; `python -m benchmarks.gpu_steps NAME RESULTS [--dry]` takes one."""
