"""The steps of a linear classifier, written plainly."""

import numpy as np


def naive_steps(kernel, bias, batches, rates):
    """Softmax regression by SGD with momentum, one image and one class at a time."""
    velocity, bias_velocity = np.zeros_like(kernel), np.zeros_like(bias)
    losses = []
    for (features, labels), rate in zip(batches, rates, strict=True):
        slope, bias_slope, total = np.zeros_like(kernel), np.zeros_like(bias), 0.0
        count = sum(label >= 0 for label in labels)
        for x, label in zip(features, labels, strict=True):
            if label < 0:
                continue
            scores = [float(x @ kernel[:, c] + bias[c]) for c in range(len(bias))]
            total_exp = sum(np.exp(score) for score in scores)
            total += np.log(total_exp) - scores[label]
            for c, score in enumerate(scores):
                error = (np.exp(score) / total_exp - (c == label)) / count
                slope[:, c] += error * x
                bias_slope[c] += error
        velocity = 0.9 * velocity + slope
        bias_velocity = 0.9 * bias_velocity + bias_slope
        kernel, bias = kernel - rate * velocity, bias - rate * bias_velocity
        losses.append(total / count)
    return kernel, bias, losses
