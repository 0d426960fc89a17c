"""All dialects by name. Adding one is a file beside this one, and a row here.

Where several begin with the same mark, they are asked in the order of the table; the last of them reads whatever the
others leave.
"""

from fcdistill.toolcalls.dialect import Dialect
from fcdistill.toolcalls.dialects.bare_json import BARE_JSON, FENCED
from fcdistill.toolcalls.dialects.hermes import HERMES
from fcdistill.toolcalls.dialects.llama_json import LLAMA_JSON
from fcdistill.toolcalls.dialects.mistral import MISTRAL, MISTRAL_V11

__all__ = ["DIALECTS"]

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        HERMES,
        LLAMA_JSON,
        MISTRAL_V11,
        MISTRAL,
        FENCED,
        BARE_JSON,
    )
}
