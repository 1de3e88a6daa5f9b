"""From scores to statistics, floors, truth and the answer."""
