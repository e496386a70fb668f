"""The rules behind ``auto``: each returns a value and the reason that is shown to the user.

In: facts. Out: ``(value, reason)``. Must not know: where a value goes, what the user asked for.
Every rule that was measured says where; the log is docs/concepts/tried.md.
"""

from typing import Literal

from fettle.records.facts import BaseFacts, DataFacts, MachineFacts, StepCost

LORA_RATE_RATIO = 10.0
"""LoRA wants about ten times the rate of full fine-tuning (Schulman et al., "LoRA without
regret", 2025; the same factor stands in Thinking Machines' cookbook)."""

FIXED_RATES = {
    "ia3": (3e-3, "the rate of its paper (Liu et al. 2022): it only scales activations"),
    "vera": (4e-3, "of the order of its paper (Kopiczko et al. 2023): only two vectors a layer"),
}
"""Methods that train so few numbers that the width of the base says nothing about their rate."""

MIN_SHARED, MIN_SHARE = 16, 0.15
"""A beginning in common is computed once from this many tokens and this share of all tokens on:
below, joining the keys costs about what it saves."""

FULL_LIMIT = 200_000_000
"""Up to this many parameters, training all of them costs no more than an adapter does."""


def method(base: BaseFacts, machine: MachineFacts) -> tuple[str, str]:
    """full for small bases that fit, else lora."""
    needed = training_bytes(base.num_parameters, "full")
    if base.num_parameters <= FULL_LIMIT and needed < 0.6 * machine.memory_bytes:
        return "full", (
            f"{base.num_parameters / 1e6:.1f} M parameters: all weights with their optimizer"
            f" states take {needed / 2**30:.1f} GiB, which fits"
        )
    return "lora", (
        f"{base.num_parameters / 1e6:.0f} M parameters: full fine-tuning would take"
        f" {needed / 2**30:.1f} GiB, and an adapter does as well on most tasks of this size"
    )


def training_bytes(num_parameters: int, method_type: str) -> int:
    """Bytes of float32 weights, gradients and Adam moments, without activations."""
    return num_parameters * (16 if method_type == "full" else 4)


def rank(data: DataFacts, base: BaseFacts) -> tuple[int, str]:
    """16, or 32 where there is much to learn; never more than the narrowest matrix has."""
    value, reason = _rank(data)
    if base.narrowest is not None and base.narrowest < value:
        return base.narrowest, "the narrowest matrix of the base has no more rows or columns"
    return value, reason


def _rank(data: DataFacts) -> tuple[int, str]:
    if data.task in ("classify", "regress") or data.target_tokens < 200_000:
        return 16, "enough for a task of this size; quality is flat above it"
    return 32, f"{data.target_tokens:,} target tokens hold more than rank 16 can take up"


def learning_rate(base: BaseFacts, method_type: str) -> tuple[float, str]:
    """Peak rate from the width of the base: 2e-4 at 384, falling with its square."""
    rate = 2e-4 * (384 / base.hidden_size) ** 2
    rate = min(5e-4, max(1e-5, rate))
    if method_type in FIXED_RATES:
        return FIXED_RATES[method_type]
    if method_type not in ("full", "last_n"):
        return _two_digits(rate * LORA_RATE_RATIO), (
            f"{LORA_RATE_RATIO:.0f} times the full fine-tuning rate for a width of"
            f" {base.hidden_size}"
        )
    return _two_digits(rate), f"full fine-tuning at a width of {base.hidden_size}"


def batch_size(num_train: int) -> tuple[int, str]:
    """A power of two from 8 to 64, or all rows if they are fewer: at least some fifty steps an
    epoch, more rows where there are many, because an optimizer step costs as much for one row as
    for sixty."""
    size = 64 if num_train > 300 * 64 else 32
    while size > 8 and num_train < 50 * size:
        size //= 2
    size = max(1, min(size, num_train))
    return size, f"{num_train:,} training rows: {-(-num_train // size)} steps an epoch"


def epochs(task: str, num_train: int) -> tuple[float, str]:
    """More passes over fewer rows; early stopping ends them sooner."""
    if task == "text":
        return 1.0, "continued pretraining reads each token once"
    ladder = [(1_000, 10.0), (5_000, 6.0), (20_000, 5.0)]
    if task == "chat":
        ladder = [(1_000, 10.0), (5_000, 5.0), (50_000, 3.0)]
    for limit, value in ladder:
        if num_train <= limit:
            return value, f"{num_train:,} training rows; early stopping may end it sooner"
    return 2.0, f"{num_train:,} training rows are many: two passes"


def max_length(base: BaseFacts, data: DataFacts) -> tuple[int, str]:
    """The longest row, as far as the base can read."""
    longest = -(-data.max_tokens // 8) * 8
    if longest <= base.context_length:
        return max(8, longest), f"the longest row has {data.max_tokens} tokens: nothing is cut"
    return base.context_length, (
        f"the base reads {base.context_length} tokens; the longest row has {data.max_tokens}"
    )


def evaluate_every(num_steps: int, steps_per_epoch: int) -> tuple[int, str]:
    """Once an epoch, at least five times in a run and at least every 500 steps."""
    every = max(1, min(steps_per_epoch, -(-num_steps // 5), 500))
    return every, f"{-(-num_steps // every)} looks at the validation rows in {num_steps} steps"


def dtype(machine: MachineFacts, cost: StepCost | None = None) -> tuple[str, str]:
    """The faster one in a probe of whole steps; before it, bfloat16 only where its matrix products
    are clearly faster."""
    if cost is not None:
        return cost.dtype, f"probe of real micro-batches: {_speeds(cost, 'float32', 'bfloat16')}"
    single = machine.gflops.get("float32", 0.0)
    half = machine.gflops.get("bfloat16", 0.0)
    if machine.device == "cuda" and half > 0:
        return "bfloat16", "the device is built for it"
    speeds = f"probe: float32 {single:.0f}, bfloat16 {half:.0f} GFLOP/s"
    if single > 0 and half > 2.0 * single:
        return "bfloat16", speeds
    return "float32", f"{speeds}; conversions eat a smaller gain"


def threads(machine: MachineFacts, cost: StepCost | None = None) -> tuple[int, str]:
    """All that the machine has, or one where a probe found one to be faster."""
    speeds = "" if cost is None else _speeds(cost, "1 thread", f"{machine.num_threads} threads")
    if cost is None or not speeds:
        return machine.num_threads, "of this machine"
    return cost.threads, f"probe of real micro-batches: {speeds}"


def _speeds(cost: StepCost, *names: str) -> str:
    found = [f"{name} {cost.speeds[name]:,.0f}" for name in names if name in cost.speeds]
    return ", ".join(found) + " tokens/s" if found else ""


def micro_batch_tokens(
    base: BaseFacts, machine: MachineFacts, cost: StepCost | None = None
) -> tuple[int, str]:
    """Tokens a forward pass: the smallest that is as fast as larger ones; before the probe, what an
    estimate of activation memory allows."""
    if cost is not None:
        sizes = [name for name in cost.speeds if name.endswith(" tokens")]
        if not sizes:
            return cost.micro_batch_tokens, "too slow to compare sizes in a short probe"
        return cost.micro_batch_tokens, f"larger ones are no faster: {_speeds(cost, *sizes)}"
    per_token = 4 * base.num_layers * base.hidden_size * 40 + 16 * base.vocab_size
    room = 0.25 * machine.memory_bytes / per_token
    tokens = 512
    while tokens * 2 <= min(room, 8192):
        tokens *= 2
    return tokens, f"activations of about {tokens * per_token / 2**20:.0f} MiB"


def padding_free(base: BaseFacts) -> tuple[bool, str]:
    """Wherever the architecture can be: the same outputs and gradients, for fewer tokens."""
    if base.packs:
        return True, "the rows stand in one line: no time goes into padding, and nothing changes"
    return False, f"the attention of {base.architecture} works on padded rows only"


def shared_prefix(
    data: DataFacts, base: BaseFacts, packs: bool, dropout: float
) -> tuple[bool, str]:
    """Where a good part of the tokens is a beginning that all rows share, and it is exact."""
    rows = max(1, data.num_rows.get("train", 1))
    share = data.shared_tokens * rows / max(1, data.train_tokens)
    obstacle = no_shared_prefix(base, packs, dropout)
    if obstacle:
        return False, obstacle
    if data.shared_tokens < MIN_SHARED or share < MIN_SHARE:
        return False, f"the rows begin with only {data.shared_tokens} tokens in common"
    return True, (
        f"all rows begin with the same {data.shared_tokens} tokens, {100 * share:.0f} % of all"
    )


def no_shared_prefix(base: BaseFacts, packs: bool, dropout: float) -> str:
    """Why what all rows begin with can't be computed once; empty where it can."""
    if not packs or base.kind != "decoder":
        return "only decoders without padding can"
    if dropout:
        return "method.dropout has to draw for each row anew"
    if base.dropout:
        return f"the base's own dropout ({base.dropout}) has to draw for each row anew"
    return ""


def compile(machine: MachineFacts) -> tuple[bool, str]:
    """Off: on a CPU compiling the blocks took minutes and won a tenth (docs/concepts/tried.md)."""
    return False, "compiling costs minutes and wins little; true is for runs of hours"


def overlong(task: str) -> tuple[Literal["cut", "quarantine", "split"], str]:
    """What to do with a row that the base can't read whole."""
    if task == "text":
        return "split", "a long document is read in pieces; nothing of it is lost"
    if task == "regress":
        return "cut", "a number can often be told from the beginning; every cut is a finding"
    if task == "classify":
        return "cut", "a label can often be told from the beginning; every cut is a finding"
    return "quarantine", "half an answer teaches the model to stop in the middle"


def generate_rows(
    data: DataFacts, machine: MachineFacts, judged_by_answers: bool = False
) -> tuple[int, str]:
    """How many holdout rows are answered in full; all where the verdict rests on the answers."""
    if data.task != "chat":
        return 0, "only chat answers are generated"
    rows = data.num_rows.get("holdout", 0)
    if judged_by_answers:
        return rows, "the verdict rests on the answers to all holdout rows"
    rows = min(rows, 200 if machine.device == "cpu" else 1000)
    return rows, "answers are slow to generate; the loss is measured on every holdout row"


def max_new_tokens(base: BaseFacts, data: DataFacts) -> tuple[int, str]:
    """Room for an answer of twice the usual length."""
    rows = max(1, data.num_rows.get("train", 1))
    usual = max(1, data.target_tokens // rows)
    return min(512, base.context_length // 2, max(16, 2 * usual)), "twice the usual answer"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
