"""Details of a tested stage beyond its metrics: scores of classes, data of figures, and the most confident mistakes."""
