"""Arrays of kernels that turn out too short: the same with room for twice as much.

Numba's cache of a kernel does not notice changes of what it calls from other files: after a change here,
touch the files that import it.
"""

import numpy as np
from numba import njit


@njit(nogil=True)
def grown(array):
    """A vector twice as long, of any type, with the values of ``array``; what is behind them is undefined."""
    longer = np.empty(2 * len(array), array.dtype)
    for i in range(len(array)):  # numba takes seconds to compile the assignment of a slice
        longer[i] = array[i]
    return longer


@njit(nogil=True)
def grown_rows(array):
    """A matrix with twice as many rows, likewise."""
    longer = np.empty((2 * len(array), array.shape[1]), array.dtype)
    for i in range(len(array)):
        for column in range(array.shape[1]):
            longer[i, column] = array[i, column]
    return longer
