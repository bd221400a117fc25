"""TRL as its documentation shows it: the model by name, every default (fp32 weights, bf16 autocast, checkpointing)."""

from benchmarks.compare.arms.common import Arm
from benchmarks.compare.arms.sft import train


def main() -> None:
    arm = Arm()
    train(arm, arm.meta["model"])


if __name__ == "__main__":
    main()
