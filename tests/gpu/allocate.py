"""Hold an amount of the first GPU's memory: ``python allocate.py BYTES``."""

from __future__ import annotations

import sys

from cuda.bindings import runtime


def main() -> None:
    size = int(sys.argv[1])
    error, address = runtime.cudaMalloc(size)
    assert error == runtime.cudaError_t.cudaSuccess, error
    (error,) = runtime.cudaMemset(address, 1, size)  # now it is really there
    assert error == runtime.cudaError_t.cudaSuccess, error
    (error,) = runtime.cudaDeviceSynchronize()
    assert error == runtime.cudaError_t.cudaSuccess, error
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
