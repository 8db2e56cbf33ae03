"""The momentum update of the key encoder (arXiv:1911.05722, equation 2)."""


def momentum_update(key, query, momentum):
    """`momentum * key + (1 - momentum) * query`, for one parameter tensor.

    Applied to parameters only: the key encoder gathers its own BatchNorm statistics.

    Args:
        key, query: the same parameter of both encoders, tensors of one shape.
        momentum: m, 0 to 1; 0.999 in the paper.
    """
    return key * momentum + query * (1 - momentum)
