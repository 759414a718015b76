"""Envoy's configuration, made from the topology and the policy of each RPC."""
