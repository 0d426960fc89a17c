"""What a judging of traces by several witnesses found: `stats.json` of `fcdistill traces judge`."""

from pydantic import Field

from fcdistill.records.record import Frozen, Record

__all__ = ["AnswerGaps", "ArgumentGap", "Counted", "JudgeStats", "WitnessRates"]


class ArgumentGap(Frozen):
    """The largest gaps at one argument of a call."""

    call: int = Field(ge=0)
    name: str
    key: float
    """Where it was begun, and at its name: another one may have been left out before it."""
    value: float

    @property
    def gap(self) -> float:
        """The larger one."""
        return max(self.key, self.value)


class AnswerGaps(Record):
    """How far a model's own favourites are ahead of an answer's tokens, in nats: a line of `gaps.jsonl`.

    A gap is the difference of log-probability between the likeliest token and the answer's own; 0 where that is it.
    """

    id: str
    name: float
    """The largest gap at names of tools."""
    arguments: tuple[ArgumentGap, ...]
    """Per argument, in the order of the answer."""
    end: float
    """The largest gap where a call ended, or the answer, which could have gone on; and where a further call began."""
    total: float
    """Sum of the gaps over all tokens."""
    nll: float
    """Negative log-likelihood of the answer in nats."""


class Counted(Frozen):
    """How many of so many."""

    num: int = Field(ge=0)
    of: int = Field(ge=0)


class WitnessRates(Frozen):
    """How often a witness, or a rule that combines some, is right about answers of which that is known."""

    name: str
    speaks: Counted
    """Candidates of which it says something, for or against."""
    kept: Counted
    """Candidates that it keeps; nearly all are right, by the source's prior error rate."""
    let_through: dict[str, Counted]
    """Per kind of planted error, those that it does not notice."""

    @property
    def planted(self) -> Counted:
        """All kinds of planted errors together."""
        parts = self.let_through.values()
        return Counted(num=sum(part.num for part in parts), of=sum(part.of for part in parts))


class JudgeStats(Record):
    """What became of the candidates of an import or a generation."""

    candidates: int
    """Traces with calls, and rejects whose words did not bear out the answer."""
    kept: int
    """Traces in traces.jsonl, those without a call among them."""
    readmitted: int
    """Rejects that became traces."""
    relabelled: int
    """Traces whose calls a model and the words agree to replace."""
    withdrawn: int
    """Traces that became rejects."""
    prior_error_rate: float
    """Of the source, before any witness was heard."""
    precision: float
    """That was aimed at."""
    estimated_precision: float | None
    """Share of right ones among the kept candidates, by the prior and by what is let through of planted errors."""
    threshold: float
    """Log odds of being right, at even prior odds, from which a candidate is kept."""
    weights: dict[str, float]
    """Of the fitted combination, on all folds: what is added to the log odds per unit of each measure."""
    witnesses: tuple[WitnessRates, ...]
