"""Contract tests that users run on their own models."""

from lis.testing.classifier import check_classifier
from lis.testing.contract import ContractError
from lis.testing.generator import check_generator
