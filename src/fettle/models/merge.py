"""Base and adapter as one model.

In: a model with adapters. Out: a transformers model that answers alike. Must not know: files.
"""

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from fettle.errors import BaseModelError
from fettle.models.initial import ADAPTER
from fettle.models.quiet import quiet


def merge_adapter(model: PeftModel, name: str) -> PreTrainedModel:
    """Add the adapter to the weights that it belongs to, in place.

    Args:
        model: of ``load_model`` or ``apply_method``; not to be used afterwards.
        name: of the run, for the message.

    Raises:
        BaseModelError: E0537, this method's adapters are no change of weights.
    """
    plain = model.get_base_model()
    # A head is put in its place here: only peft's LoRA can unwrap one of several layers.
    for place, module in list(plain.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = place.rpartition(".")
            setattr(plain.get_submodule(parent), child, module.modules_to_save[ADAPTER])
    try:
        with quiet():
            return model.merge_and_unload()
    except (NotImplementedError, ValueError) as error:
        raise BaseModelError(
            "E0537",
            f"the adapter of {name} can't be merged into its base",
            why=f"peft says: {str(error).strip()[:200]}",
            hint="start from that run's own base, or train it again with --set method.type=lora",
        ) from error
