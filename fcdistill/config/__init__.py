"""Configuration: one YAML file with a section per stage, checked before any work starts.

The sections are `generate`, `adapt`, `train` and `eval`; each stands for itself (YAML anchors serve to share values).
Relative paths start at the current directory. Every field has a description, which is also its documentation. Options
of a command and `--set` override what the file says of a field.

Who checks what, so that each check stands where all that it asks is known, and is made as early as it can be:

    fields alone                        here: a field's own type and range, and the `Rule`s of its section
    files, models, this machine         each stage's preparation (`generation.context`, `distillation.preparation`,
                                        `evaluation.runner.check_inputs`), before any weights are loaded
    the launcher                        `distillation.launch`: the number of processes, and the strategies

Nothing here opens the files that are named, knows a model, or asks who started the process.
"""

from fcdistill.config.backend_section import (
    BackendConfig,
    DecodeSettings,
    LocalBackendConfig,
    OpenAIBackendConfig,
    ScriptedBackendConfig,
    ServerConfig,
)
from fcdistill.config.cacheable import require_cacheable
from fcdistill.config.config_file import load_config, parse_config
from fcdistill.config.eval_section import CasesFormat, EvalConfig, GateConfig
from fcdistill.config.fields import describe_fields
from fcdistill.config.generate_section import (
    CONTAMINATION_JACCARD,
    NEAR_DUPLICATE_JACCARD,
    ExecutorConfig,
    GenerateConfig,
    PolicyName,
    Trust,
    VerificationConfig,
)
from fcdistill.config.objective_section import CLASS_NAMES, CacheConfig, Divergence, KdGate, ObjectiveConfig, TokenClass
from fcdistill.config.section import Dtype, ToolsInPrompt
from fcdistill.config.served_teacher import ServedTeacherConfig
from fcdistill.config.student_section import FromTeacherLayers, FullTuning, LoraTuning, Pretrained, Quantization
from fcdistill.config.template_section import KitDialect, TemplateChoice, TemplateValues
from fcdistill.config.train_section import (
    AdaptationConfig,
    AdaptConfig,
    AugmentationConfig,
    MonitorConfig,
    OnPolicyConfig,
    Reporter,
    Signal,
    TrainConfig,
)

__all__ = [
    "AdaptConfig",
    "AdaptationConfig",
    "AugmentationConfig",
    "BackendConfig",
    "CLASS_NAMES",
    "CONTAMINATION_JACCARD",
    "CacheConfig",
    "CasesFormat",
    "DecodeSettings",
    "Divergence",
    "Dtype",
    "EvalConfig",
    "ExecutorConfig",
    "FromTeacherLayers",
    "FullTuning",
    "GateConfig",
    "GenerateConfig",
    "KdGate",
    "KitDialect",
    "LocalBackendConfig",
    "LoraTuning",
    "MonitorConfig",
    "NEAR_DUPLICATE_JACCARD",
    "ObjectiveConfig",
    "OnPolicyConfig",
    "OpenAIBackendConfig",
    "PolicyName",
    "Pretrained",
    "Quantization",
    "Reporter",
    "ScriptedBackendConfig",
    "ServedTeacherConfig",
    "ServerConfig",
    "Signal",
    "TemplateChoice",
    "TemplateValues",
    "TokenClass",
    "ToolsInPrompt",
    "TrainConfig",
    "Trust",
    "VerificationConfig",
    "describe_fields",
    "load_config",
    "parse_config",
    "require_cacheable",
]
