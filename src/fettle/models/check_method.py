"""Can the base be trained as the recipe says? Asked before any row becomes tokens.

In: the method section of a recipe, a base's facts. Out: nothing, or the error that training would
end in. Must not know: data, optimizers. Only the shapes of the model are built, no weights.
"""

from fettle.models.adapters import check_options
from fettle.models.last_blocks import check_layers, find_blocks
from fettle.models.load import Task, build_empty
from fettle.models.targets import check_ranks, find_targets
from fettle.recipe.methods import implied_kind, kind_of
from fettle.recipe.recipe import MethodSection
from fettle.records.facts import BaseFacts


def check_method(section: MethodSection, base: BaseFacts, task: Task) -> None:
    """Hold what the user asked for against the base.

    What is left to ``auto`` is chosen to fit, and a method of peft may still refuse a value of its
    own when it is put on the real weights.

    Args:
        section: as in the recipe, with ``auto`` as None.
        base: from ``find_base``.
        task: decides which head there is.

    Raises:
        RecipeError: E0516, E0530 to E0535.
    """
    implied = implied_kind(section)
    kind = kind_of(section.type) if section.type is not None else implied and implied[0]
    if kind is None or kind == "full":
        return
    if kind == "peft":
        check_options(section.type or "", task, section.options)
    model = build_empty(base, task)
    if kind == "last_n":
        check_layers(find_blocks(model, base.id), section.layers, base.id)
        return
    targets = find_targets(model, task, section.target_modules, base.id)
    if kind == "lora":
        patterns = section.rank_pattern, section.alpha_pattern
        check_ranks(model, task, targets, section.rank or 1, *patterns)
