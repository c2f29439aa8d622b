"""Tables whose columns several parties hold, published through generators."""
