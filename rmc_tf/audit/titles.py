"""What the attacks of an audit are called, and what is said of them."""

from typing import Any

from rmc_tf.config import AttackConfig

FEW, MANY = "pgd_skip_short", "pgd_skip"
TRANSFERS = ("transfer", "transfer_margin")


def title_of(name: str, own: str, model: AttackConfig) -> str:
    """Returns what a reader calls an attack by gradients.

    Args:
      name: of the attack.
      own: what an attack on the present network is called.
      model: what is climbed, and how.
    """
    title = "Transfer from θ*" if name in TRANSFERS else own
    if model.attack != "pgd":
        return f"{title}, {model.attack}"
    if name == FEW:
        title += f", {model.iterations} steps"
    if model.loss == "margin":
        title += ", margin loss"
    number = name.rpartition("_")[2]
    return f"{title}, start {number}" if number.isdigit() else title


def described_by(
    name: str, title: str, model: AttackConfig, samples: int | None, *, inside: bool = True
) -> dict[str, Any]:
    """Returns an attack and what it may spend, as JSON.

    Args:
      name: of the attack.
      title: what a reader calls it.
      model: its ball and its steps.
      samples: the draws that gradients are averaged over; None: a black box, which has none.
      inside: whether it stays in the ball.
    """
    steps = () if samples is None else ("attack", "loss", "step_size", "iterations")
    drawn = {} if samples is None or name in TRANSFERS else {"samples": samples}
    return {
        "name": name,
        "title": title,
        "worst_case": inside,
        "norm": model.norm,
        "epsilon": model.epsilon,
        **{field: getattr(model, field) for field in steps},
        **drawn,
    }
