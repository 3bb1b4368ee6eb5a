"""Typed settings and run configurations, read from TOML; an unknown key is an error that lists the known ones."""

from asterism.config.loading import load_run_config, parse_run_config
from asterism.config.run import (
    DataConfig,
    DecodingConfig,
    EmbeddingConfig,
    EvaluationConfig,
    KindFields,
    ModelConfig,
    RunConfig,
    SemanticIdConfig,
    TrainingConfig,
)
from asterism.config.stores import DeploymentConfig, StoresConfig, load_deployment

__all__ = [
    "DataConfig",
    "DecodingConfig",
    "DeploymentConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "KindFields",
    "ModelConfig",
    "RunConfig",
    "SemanticIdConfig",
    "StoresConfig",
    "TrainingConfig",
    "load_deployment",
    "load_run_config",
    "parse_run_config",
]
