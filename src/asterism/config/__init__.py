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

__all__ = [
    "AlignmentConfig",
    "DataConfig",
    "DecodingConfig",
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
    "TaskWeights",
    "TrainingConfig",
    "load_reranking_config",
    "load_run_config",
    "parse_reranking_config",
    "parse_run_config",
]
