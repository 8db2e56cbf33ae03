"""Graphs as they run, which is after TensorFlow has optimized them."""

from tensorflow.python.eager import context


def optimized_nodes(function, *arguments):
    """Returns (what the `tf.function` returns, the nodes of its optimized graphs)."""
    context.enable_run_metadata()
    try:
        context.export_run_metadata()  # what others left
        results = function(*arguments)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    return results, [node for graph in graphs for node in graph.post_optimization_graph.node]
