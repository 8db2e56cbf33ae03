"""Stochastic gradient descent in PyTorch's form."""


def sgd_update(parameter, buffer, gradient, learning_rate, *, momentum, weight_decay):
    """Returns the new parameter and momentum buffer.

    The decay is part of the gradient (coupled) and the learning rate stays outside the buffer, so
    that a change of rate acts at once:

        buffer <- momentum * buffer + (gradient + weight_decay * parameter)
        parameter <- parameter - learning_rate * buffer

    Args:
        parameter, buffer, gradient: tensors of one shape. The first buffer is zero.

    Source: PyTorch's SGD without dampening or Nesterov, as the official MoCo uses it.
    """
    buffer = momentum * buffer + (gradient + weight_decay * parameter)
    return parameter - learning_rate * buffer, buffer
