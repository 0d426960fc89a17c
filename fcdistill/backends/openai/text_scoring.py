"""Log-probabilities of given texts from a server: what a teacher says there of answers that are verified already.

A text that a server can't score is no loss that could be put aside, as an answer that fails: the same request fails
for every other text, or the trainings that need it would miss it. So the first one ends the work, with all that is
known of why. What is taught from the numbers is not known here.
"""

from collections.abc import Generator, Iterable

from fcdistill.backends.openai.chat_wire import MalformedAnswerError
from fcdistill.backends.openai.client import OpenAIClient, RequestFailedError
from fcdistill.backends.openai.logprobs_wire import GivenText, ScoredText, read_scores, score_fields
from fcdistill.config import ServedTeacherConfig
from fcdistill.errors import BackendError

__all__ = ["score_texts"]

_KNOWN = {
    "prompt_logprobs": "its answer to prompt_logprobs, as of vLLM's completions API, for the tokens that were sent",
    "echo": "its answer to echo with logprobs, as of OpenAI's completions API, for the tokens that were sent",
}
_REMEDIES = {
    "prompt_logprobs": "where the server allows fewer likely tokens, lower cache.top_k or raise its limit (vLLM: "
    "--max-logprobs); where it knows no prompt_logprobs, set served_teacher.logprobs to echo and cache.top_k to 0; "
    "where tokens differ, correct served_teacher.tokenizer",
    "echo": "ask another server, or set served_teacher.logprobs to prompt_logprobs where it knows that; where tokens "
    "differ, correct served_teacher.tokenizer",
}


def score_texts(
    client: OpenAIClient, config: ServedTeacherConfig, texts: Iterable[GivenText], top_k: int
) -> Generator[ScoredText, None, None]:
    """Score each text, each as soon as its answer is there, in no particular order.

    Args:
        client: of the server.
        config: which model is asked, and how.
        texts: as many are under way as the config allows.
        top_k: how many of the likeliest tokens come with each token; 0: none.

    Raises:
        BackendError: the server does not answer, or not what was asked.
    """

    async def score(given: GivenText) -> ScoredText:
        body, extension = score_fields(config, given, top_k)
        try:
            content, _ = await client.post("completions", body, extension)
            return read_scores(config, content, given, top_k)
        except (MalformedAnswerError, RequestFailedError) as failure:
            asked = "echo" if config.logprobs == "echo" else f"prompt_logprobs {top_k}"
            raise BackendError(
                f"model {config.model!r} at {config.base_url} gives no log-probabilities for {given.id!r}: asked for "
                f"{asked} of {len(given.prompt_ids)} + {len(given.completion_ids)} tokens, what came back is "
                f"{client.redacted(str(failure))}",
                required=_KNOWN[config.logprobs],
                fix=f"{_REMEDIES[config.logprobs]}; then run the same command again; finished work is kept",
            ) from None

    for scored in client.answers(texts, score):
        client.count(answered=True, prompt_tokens=scored.prompt_tokens, completion_tokens=scored.completion_tokens)
        yield scored
