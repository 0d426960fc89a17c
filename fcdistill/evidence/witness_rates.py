"""How often witnesses, and rules that combine them, keep candidates and let planted errors through."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from fcdistill.config import PolicyName
from fcdistill.evidence.candidates import Variant
from fcdistill.generation.verification.planted_errors import KINDS
from fcdistill.generation.verification.policy import decide
from fcdistill.records import Counted, WitnessRates

__all__ = ["kept_precision", "policy_rates", "witness_rates", "word_rates"]

POLICIES: tuple[PolicyName, ...] = ("strict", "balanced", "trusting")


def witness_rates(
    name: str,
    variants: Sequence[Variant],
    keeps: Callable[[Variant], bool],
    speaks: Callable[[Variant], bool] = lambda variant: True,
) -> WitnessRates:
    """Count what a rule keeps.

    Args:
        name: of the rule.
        variants: candidates, and those with a planted error.
        keeps: whether it would keep one.
        speaks: whether it says anything of one.
    """
    candidates = [variant for variant in variants if variant.kind is None]
    planted = Counter(variant.kind for variant in variants)
    let_through = Counter(variant.kind for variant in variants if variant.kind is not None and keeps(variant))
    return WitnessRates(
        name=name,
        speaks=Counted(num=sum(map(speaks, candidates)), of=len(candidates)),
        kept=Counted(num=sum(map(keeps, candidates)), of=len(candidates)),
        let_through={kind: Counted(num=let_through[kind], of=planted[kind]) for kind in KINDS if planted[kind]},
    )


def word_rates(variants: Sequence[Variant]) -> WitnessRates:
    """Of words alone, which speak against a value or miss one, and else keep."""
    return witness_rates(
        "words",
        variants,
        lambda variant: not (variant.words.said("against") or variant.words.missing),
        lambda variant: any(each.stance != "nothing" for each in variant.words.arguments),
    )


def policy_rates(variants: Sequence[Variant], policies: Iterable[PolicyName] = POLICIES) -> list[WitnessRates]:
    """Of each policy, where the answers are independent and no model is heard."""
    return [
        witness_rates(
            f"policy {policy}",
            variants,
            lambda variant, policy=policy: decide(policy, variant.words, independent=True).keep,  # type: ignore[misc]
        )
        for policy in policies
    ]


def kept_precision(rates: WitnessRates, prior_error_rate: float) -> float | None:
    """The share of right ones among the kept, where wrong candidates are like planted ones; None where none is kept."""
    planted = rates.planted
    if not rates.kept.num or not planted.of:
        return None
    # Candidates are a mixture: what is kept of the right ones follows from what is kept of all and of the wrong ones.
    all_kept, wrong_kept = rates.kept.num / rates.kept.of, planted.num / planted.of
    return max(0.0, 1 - prior_error_rate * wrong_kept / all_kept)
