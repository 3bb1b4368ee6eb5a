"""Typed settings and run configurations, read from TOML; an unknown key is an error that lists the known ones."""

from asterism.config.llm import LLMConfig, LLMShape, TaskWeights
from asterism.config.loading import (
    load_reranking_config,
    load_run_config,
    parse_reranking_config,
    parse_run_config,
)
from asterism.config.reranking import RerankingConfig
from asterism.config.run import (
    AlignmentConfig,
    DataConfig,
    DecodingConfig,
    EmbeddingConfig,
    EvaluationConfig,
    KindFields,
    ModelConfig,
    RewardWeights,
    RunConfig,
    SemanticIdConfig,
    TrainingConfig,
)
from asterism.config.stores import DeploymentConfig, StoresConfig, load_deployment

__all__ = [
    "AlignmentConfig",
    "DataConfig",
    "DecodingConfig",
    "DeploymentConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "KindFields",
    "LLMConfig",
    "LLMShape",
    "ModelConfig",
    "RerankingConfig",
    "RewardWeights",
    "RunConfig",
    "SemanticIdConfig",
    "StoresConfig",
    "TaskWeights",
    "TrainingConfig",
    "load_deployment",
    "load_reranking_config",
    "load_run_config",
    "parse_reranking_config",
    "parse_run_config",
]
