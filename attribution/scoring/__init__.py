"""From residuals to strength: scores between candidates, limits, rates and their intervals. No torch."""
