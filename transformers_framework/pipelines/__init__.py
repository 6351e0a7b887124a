"""LightningModules: one step for all stages, one family a way of calling the heads."""
