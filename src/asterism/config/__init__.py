"""Typed settings and run configurations, read from TOML; an unknown key is an error that lists the known ones."""

from asterism.config.loading import (
    load_reranking_config,
    load_run_config,
    parse_reranking_config,
    parse_run_config,
)
from asterism.config.reranking import RerankingConfig
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

__all__ = [
    "DataConfig",
    "DecodingConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "KindFields",
    "ModelConfig",
    "RerankingConfig",
    "RunConfig",
    "SemanticIdConfig",
    "TrainingConfig",
    "load_reranking_config",
    "load_run_config",
    "parse_reranking_config",
    "parse_run_config",
]
