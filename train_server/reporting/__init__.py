"""The results of a run: its report, its plots, its metrics in MLflow and TensorBoard."""
