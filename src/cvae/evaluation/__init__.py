"""Measurements of a trained model: likelihood bounds, label accuracy, sample quality and use of the latents.

Works without DVC and MLflow: import nothing from `pipeline`, `tracking` or `commands`, nor from `training` or
`figures`. Start at `evaluate`.
"""
