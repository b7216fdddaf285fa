"""Gymnasium environments: registration, actions, observations, reset, and the panel that renders."""
