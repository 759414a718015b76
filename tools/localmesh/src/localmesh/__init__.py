"""The local mesh: real Envoy sidecars, certificates and databases around the services, on one machine."""
