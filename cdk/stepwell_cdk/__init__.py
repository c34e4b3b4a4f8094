"""Stepwell in your own AWS account, with the CDK.

    from stepwell_cdk import Stepwell, StepwellApp

    stepwell = Stepwell(self, "Stepwell")
    shop = StepwellApp(self, "Shop", stepwell=stepwell, code="shop", app="app:app")
    shop.grant_send(website)                      # who may send events
    receipts.grant_put(shop.role)                 # what your steps may do

A module a concept: ``storage`` (table, bucket, queues), ``engine`` (consumer, orchestrator, sweeper, registrar),
``api`` (the webhook door), ``sources`` (EventBridge, S3, SNS), ``worker``, ``access`` (who may do what), ``alarms``,
``dashboard``, ``bundling`` and ``packages`` (code without Docker).
"""

from stepwell_cdk.api import Webhooks
from stepwell_cdk.app import StepwellApp
from stepwell_cdk.functions import Network
from stepwell_cdk.platform import Platform
from stepwell_cdk.stepwell import Names, Stepwell
from stepwell_cdk.worker import ComputeClass

__all__ = ["Stepwell", "StepwellApp", "ComputeClass", "Platform", "Names", "Network", "Webhooks"]
