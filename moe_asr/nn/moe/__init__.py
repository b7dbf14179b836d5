"""Mixture of Experts: router, experts, layer, auxiliary losses, routing statistics."""
