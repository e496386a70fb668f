"""The Jinja environment that chat templates run in: sandboxed, and compatible with transformers.

In: a template's source, then plain JSON data. Out: text. Templates come from hubs and are not
trusted: underscored attributes are out of reach, data can't be changed, loops and outputs are
bounded.
Must not know: tokens, messages' meaning.
"""

import json
from datetime import datetime
from typing import Any, Final

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

MAX_OUTPUT: Final = 50_000_000
"""Characters that one rendering may write, or one string hold."""
MAX_LOOPS: Final = 1_000_000
"""Sum over all ``range`` calls of one rendering."""

GENERATION: Final = "fettle_generation"
"""Template variable with the pair of characters that a {% generation %} block is put between."""


class TemplateLimit(Exception):
    """A template asked for more loops or memory than a chat can need."""


class _Generation(jinja2.ext.Extension):
    """``{% generation %} ... {% endgeneration %}``: what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("mark", [jinja2.nodes.ContextReference()])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def mark(self, context: jinja2.runtime.Context, caller: jinja2.runtime.Macro) -> str:
        start, end = context.get(GENERATION, ("", ""))
        return f"{start}{caller()}{end}"


class _Namespace(jinja2.utils.Namespace):
    """No names of Python's internals on a namespace."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: str) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace can't have the name {name!r}")


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        if operator == "**" and isinstance(right, (int, float)) and abs(right) > 64:
            raise TemplateLimit("a power with an exponent above 64")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if (
                    isinstance(many, (str, list, tuple))
                    and isinstance(times, int)
                    and len(many) * times > MAX_OUTPUT
                ):
                    raise TemplateLimit(f"a text of more than {MAX_OUTPUT:,} characters")
        return super().call_binop(context, operator, left, right)


class _Loops:
    """``range`` with a budget for the whole rendering."""

    def __init__(self) -> None:
        self.left = MAX_LOOPS

    def __call__(self, *arguments: int) -> range:
        values = range(*arguments)
        self.left -= len(values)
        if self.left < 0:
            raise TemplateLimit(f"more than {MAX_LOOPS:,} loops")
        return values


class CompiledTemplate:
    """One template, ready to render.

    Args:
        source: the template.
        now: what ``strftime_now`` tells; None for the real time.

    Raises:
        jinja2.TemplateSyntaxError: the source is no template.
    """

    def __init__(self, source: str, now: datetime | None = None) -> None:
        environment = _Sandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        environment.filters["tojson"] = _tojson
        environment.globals.update(
            raise_exception=_raise_exception,
            strftime_now=lambda form: (now or datetime.now()).strftime(form),
            namespace=_Namespace,
        )
        tree = environment.parse(source)
        self._template = environment.from_string(source)
        self.has_generation = any(
            isinstance(node.call, jinja2.nodes.Call)
            and isinstance(node.call.node, jinja2.nodes.ExtensionAttribute)
            and node.call.node.name == "mark"
            for node in tree.find_all(jinja2.nodes.CallBlock)
        )
        self.variables = jinja2.meta.find_undeclared_variables(tree)
        literals = {node.data for node in tree.find_all(jinja2.nodes.TemplateData)}
        literals |= {
            node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)
        }
        self.literals = "\0".join(sorted(literals))
        """Every text that the template itself can write, for finding control tokens in it."""

    def render(self, **variables: Any) -> str:
        """Fill the template.

        Raises:
            TemplateLimit: too many loops or too much text.
            jinja2.TemplateError: the template refused, or has an error.
        """
        parts: list[str] = []
        size = 0
        for part in self._template.generate(range=_Loops(), **variables):
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT:
                raise TemplateLimit(f"a text of more than {MAX_OUTPUT:,} characters")
        return "".join(parts)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> str:
    raise jinja2.exceptions.TemplateError(message)
