"""LightningModules: one step for all stages, and a subclass for each way of calling the heads."""
