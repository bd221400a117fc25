"""How the threads of a command wait for each other, beside whatever else the machine does."""

from collections.abc import MutableMapping

_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPINS = "3000"  # about 10 microseconds; libgomp's own 300,000 take the core of the thread that is waited for


def share_processor(environment: MutableMapping[str, str]) -> None:
    """Lets threads of libgomp sleep soon after they have nothing to do, unless the user has said how they wait.

    Call it before torch is imported. `python -m benchmarks.studies.busy` measures what it gives beside other work.

    >>> share_processor(said := {"OMP_WAIT_POLICY": "active"}), share_processor(unsaid := {}), said, unsaid
    (None, None, {'OMP_WAIT_POLICY': 'active'}, {'GOMP_SPINCOUNT': '3000'})
    """
    if not any(name in environment for name in _WAITING):
        environment["GOMP_SPINCOUNT"] = SPINS
