"""All dialects by name. Adding one is a file beside this one, and a row here.

Where several begin with the same mark, they are asked in the order of the table; the last of them reads whatever the
others leave.
"""

from fcdistill.toolcalls.dialect import Dialect
from fcdistill.toolcalls.dialects.bare_json import BARE_JSON, FENCED
from fcdistill.toolcalls.dialects.deepseek import DEEPSEEK_V3, DEEPSEEK_V4, DEEPSEEK_V31, DEEPSEEK_V32
from fcdistill.toolcalls.dialects.functionary import FUNCTIONARY
from fcdistill.toolcalls.dialects.gemma import FUNCTION_GEMMA, GEMMA4
from fcdistill.toolcalls.dialects.glm import GLM
from fcdistill.toolcalls.dialects.harmony import HARMONY
from fcdistill.toolcalls.dialects.hermes import HERMES
from fcdistill.toolcalls.dialects.kimi import KIMI_K2
from fcdistill.toolcalls.dialects.llama_json import LLAMA_JSON
from fcdistill.toolcalls.dialects.marked_json import (
    APERTUS,
    COHERE,
    GIGACHAT,
    GRANITE3,
    GRANITE_20B,
    INTERNLM2,
    MINIMAX_M1,
    NEMOTRON2,
    PHI4,
)
from fcdistill.toolcalls.dialects.minimax import MINIMAX_M2
from fcdistill.toolcalls.dialects.mistral import MISTRAL, MISTRAL_V11
from fcdistill.toolcalls.dialects.pythonic import LFM2, LLAMA4_PYTHONIC, OLMO3, PYTHONIC
from fcdistill.toolcalls.dialects.qwen_xml import QWEN_XML, SEED_XML

__all__ = ["DIALECTS"]

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        QWEN_XML,
        GLM,
        HERMES,
        FUNCTIONARY,
        LLAMA_JSON,
        MISTRAL_V11,
        MISTRAL,
        PYTHONIC,
        LFM2,
        LLAMA4_PYTHONIC,
        OLMO3,
        FUNCTION_GEMMA,
        GEMMA4,
        HARMONY,
        DEEPSEEK_V31,
        DEEPSEEK_V3,
        DEEPSEEK_V32,
        DEEPSEEK_V4,
        KIMI_K2,
        MINIMAX_M2,
        MINIMAX_M1,
        GRANITE3,
        GRANITE_20B,
        GIGACHAT,
        PHI4,
        NEMOTRON2,
        COHERE,
        APERTUS,
        INTERNLM2,
        SEED_XML,
        FENCED,
        BARE_JSON,
    )
}
