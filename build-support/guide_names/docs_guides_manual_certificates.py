"""The imports are not worth their lines in the guide."""

import asyncio
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from grpc_common.client.factory import GRPCClientFactory
from grpc_common.settings import ClientTLSSettings
