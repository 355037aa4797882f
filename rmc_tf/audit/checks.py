"""Signs that an attack failed for another reason than robustness: masked gradients.

After Athalye et al. 2018 (section 3.1), Carlini et al. 2019 and AutoAttack's own
checks. Each takes what was measured, and says whether it is suspicious and by
which numbers. A suspicious one doesn't say that the defence is weak; it says that
these attacks can't tell.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

Status = Literal["pass", "suspicious", "not run"]

_FEW = 0.05
"""Of the points: so many gradients may vanish by chance. Ours."""
_FLAT = 1e-6
"""‖∇‖₂ below which CleverHans and others no longer take a whole step under L2."""
_NEAR_0 = 0.1
"""The accuracy without any ball may be that of guessing ten classes. Ours."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    status: Status
    found: str
    """A phrase with the numbers that decide."""
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def gradients(slopes: np.ndarray, confidences: np.ndarray, queries: int = 0) -> Check:
    """Looks for gradients that lead nowhere: attacks on the cross entropy then say nothing.

    Args:
      slopes: of the cross entropy of y at clean points, [M, H, W, C].
      confidences: p(y) at the same, [M] float32; where it rounds to 1 the loss is flat.
      queries: how many the defence had answered before; it saturates itself.
    """
    flat = slopes.reshape(len(slopes), -1)
    finite = np.isfinite(flat).all(axis=1)
    zero = (flat == 0).all(axis=1)
    vanishing = np.linalg.norm(flat.astype(np.float64), axis=1) < _FLAT
    sure = confidences == 1
    numbers = {
        "not_finite": float(1 - finite.mean()),
        "zero": float(zero.mean()),
        "vanishing": float(vanishing.mean()),
        "sure": float(sure.mean()),
        "zero_pixels": float((flat == 0).mean()),
        "points": len(flat),
    }
    bad = not finite.all() or max(numbers["vanishing"], numbers["sure"]) > _FEW
    found = (
        f"of {len(flat)} points the gradient is exactly 0 at {zero.sum()}, shorter than "
        f"{_FLAT:g} at {vanishing.sum()}, not finite at {(~finite).sum()}, and p(y) is 1 at "
        f"{sure.sum()}; {100 * numbers['zero_pixels']:.0f} % of all its pixels are 0"
    )
    name = f"zero gradients after {queries} queries" if queries else "zero gradients"
    return Check(name, _judged(bad), found, numbers)


def outputs(logits: np.ndarray) -> Check:
    """Looks for probabilities where logits are expected: a second softmax flattens the loss.

    Also for a multiple of them, as after a temperature: what is 0 or more and has one sum. The
    logits, [M, classes], are those of clean points.
    """
    sums = logits.sum(axis=1)
    one_sum = bool(np.allclose(sums, sums.mean(), rtol=1e-3, atol=0))
    bad = bool((logits >= 0).all()) and one_sum
    low, high = float(logits.min()), float(logits.max())
    numbers = {"least": low, "most": high, "sums": [float(sums.min()), float(sums.max())]}
    found = f"outputs from {low:.3g} to {high:.3g}, sums from {sums.min():.3g} to {sums.max():.3g}"
    return Check("probabilities for logits", _judged(bad), found, numbers)


def black_box(right: Mapping[str, np.ndarray], black: Sequence[str], margin: float) -> Check:
    """Looks for a black box that does more harm than all attacks by gradients together.

    Args:
      right: by threat, whether each point was answered rightly while attacked, [M] bool.
      black: which of them are black boxes that search.
      margin: by how much of the points.
    """
    name = "black box stronger than white box"
    white = {n: own for n, own in right.items() if n not in black}
    strong = {n: own for n, own in right.items() if n in black}
    if not white or not strong:
        return Check(name, "not run", "no threat of both kinds")
    by_gradients, by_answers = (np.all(list(g.values()), axis=0) for g in (white, strong))
    alone = int((by_gradients & ~by_answers).sum())
    numbers = {
        "white_box": float(by_gradients.mean()),
        "black_box": float(by_answers.mean()),
        "broken_by_black_box_alone": alone,
    }
    found = (
        f"black box {_percent(numbers['black_box'])}, white box "
        f"{_percent(numbers['white_box'])}; {alone} points broken by the black box alone"
    )
    bad = numbers["black_box"] < numbers["white_box"] - margin
    return Check(name, _judged(bad), found, numbers)


def transfer(right: Mapping[str, np.ndarray], transfers: Sequence[str], margin: float) -> Check:
    """Looks for attacks on the static network that do more harm than those on the defence itself.

    Then what the defence shows of itself leads nowhere: it hides its gradients and no more.

    Args:
      right: by threat by gradients, whether each point was answered rightly, [M] bool.
      transfers: which of them attack the static network.
      margin: by how much of the points.
    """
    name = "transfer stronger than white box"
    static = [own for n, own in right.items() if n in transfers]
    present = [own for n, own in right.items() if n not in transfers]
    if not static or not present:
        return Check(name, "not run", "the network that answers is the static one")
    by_static, by_present = (np.all(each, axis=0) for each in (static, present))
    alone = int((by_present & ~by_static).sum())
    numbers = {"transfer": float(by_static.mean()), "white_box": float(by_present.mean())}
    found = (
        f"transfer {_percent(numbers['transfer'])}, attacks on its present network "
        f"{_percent(numbers['white_box'])}; {alone} points broken by transfer alone"
    )
    return Check(name, _judged(numbers["transfer"] < numbers["white_box"] - margin), found, numbers)


def known_attack(right: Mapping[str, np.ndarray], transfers: Sequence[str], margin: float) -> Check:
    """Looks for a defence that withstands the attack it was made for, and no other.

    Args:
      right: by threat, whether each point was answered rightly, [M] bool.
      transfers: those on the static network; the first is by the usual attack, which D' has.
      margin: of the points; and half of what withstands that attack must fall to others.
    """
    name = "withstands the known attack alone"
    first = next((n for n in transfers if n in right), None)
    others = [own for n, own in right.items() if n != first]
    if first is None or not others:
        return Check(name, "not run", "no attack on a static network, or no other")
    known = float(right[first].mean())
    rest = float((right[first] & np.all(others, axis=0)).mean())
    found = (
        f"the transferred attack leaves {_percent(known)}, all attacks together {_percent(rest)}"
    )
    bad = known - rest > max(margin, known / 2)
    return Check(name, _judged(bad), found, {"known": known, "all": rest})


def stopped(layers: Sequence[str], broken: int, points: int) -> Check:
    """Says which layers let no gradient through, and what fell once it was led past them.

    Args:
      layers: their names.
      broken: points that were broken by attacks through the network, past these layers.
      points: M.
    """
    name = "layers that stop the gradient"
    if not layers:
        return Check(name, "pass", "none", {"layers": []})
    found = (
        f"no gradient goes through {', '.join(layers)}; with the identity in its place on the way "
        f"back (BPDA) {broken} of {points} points fell"
    )
    return Check(name, "suspicious", found, {"layers": list(layers), "broken": broken})


def evaded(clean: np.ndarray, refused: np.ndarray, broken: np.ndarray, margin: float) -> Check:
    """Looks for a detector that refuses attacks which don't look at it, and accepts others.

    Args:
      clean: whether each clean point was refused, [M] bool.
      refused: whether the point was refused under some attack, [M] bool.
      broken: whether it was broken: answered wrongly, and accepted, [M] bool.
      margin: of the points.
    """
    name = "refusals that are evaded"
    if not (clean | refused).any():
        return Check(name, "not run", "nothing was refused")
    both = int((refused & broken).sum())
    numbers = {"clean": float(clean.mean()), "refused": int(refused.sum()), "evaded": both}
    found = (
        f"{clean.sum()} of {len(clean)} clean points are refused; {refused.sum()} were refused "
        f"under some attack, and {both} of these fell to another that was accepted"
    )
    return Check(name, _judged(both > margin * len(clean)), found, numbers)


def noise(clean: np.ndarray, noisy: np.ndarray | None, white: Mapping[str, np.ndarray]) -> Check:
    """Looks for random points of the ball that do as much harm as any attack by gradients.

    Args:
      clean: whether each clean point was answered rightly, [M] bool.
      noisy: the same under noise; None where that was left out.
      white: the same for each attack by gradients.
    """
    name = "noise as strong as gradients"
    if noisy is None:
        return Check(name, "not run", "noise was left out")
    if not white:
        return Check(name, "not run", "no attack by gradients")
    strongest = min(float(own.mean()) for own in white.values())
    numbers = {"clean": float(clean.mean()), "noise": float(noisy.mean()), "white_box": strongest}
    found = (
        f"noise {_percent(numbers['noise'])}, clean {_percent(numbers['clean'])}, the strongest "
        f"attack by gradients {_percent(strongest)}"
    )
    bad = numbers["noise"] < numbers["clean"] and 0 < strongest >= numbers["noise"]
    return Check(name, _judged(bad), found, numbers)


def larger(by_radius: Sequence[tuple[str, float]], margin: float) -> Check:
    """Looks for a larger ball that is no worse for the defence, and for one that holds all.

    Args:
      by_radius: a title and the accuracy, from the smallest ball to none at all.
      margin: by how much an accuracy may rise with the ball.
    """
    name = "larger ε no stronger"
    if len(by_radius) < 2:
        return Check(name, "not run", "no attack by gradients to enlarge")
    shares = [share for _, share in by_radius]
    rises = any(b > a + margin for a, b in itertools.pairwise(shares))
    found = ", ".join(f"{title} {_percent(share)}" for title, share in by_radius)
    bad = rises or shares[-1] > max(_NEAR_0, margin)
    return Check(name, _judged(bad), found, dict(by_radius))


def more_steps(few: np.ndarray | None, many: np.ndarray | None, margin: float) -> Check:
    """Looks for an attack that more and smaller steps make weaker, by more than a margin.

    Both say whether each point was answered rightly, [M] bool; None where it was left out.
    """
    name = "more steps weaker"
    if few is None or many is None:
        return Check(name, "not run", "PGD-Skip was left out")
    numbers = {"few": float(few.mean()), "many": float(many.mean())}
    found = f"few steps {_percent(numbers['few'])}, many {_percent(numbers['many'])}"
    bad = numbers["many"] > numbers["few"] + margin
    return Check(name, _judged(bad), found, numbers)


def drawn(differ: int, images: int) -> Check:
    """Looks for answers that are drawn, by their probabilities.

    Args:
      differ: of how many clean images they differ in one state.
      images: of how many.
    """
    found = (
        f"{differ} of {images} clean images get different probabilities in one state; "
        "worst case: every draw; expected: the mean"
    )
    numbers = {"differ": differ, "images": images}
    return Check("random answers", _judged(differ > 0), found, numbers)


def _judged(bad: bool) -> Status:
    return "suspicious" if bad else "pass"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
