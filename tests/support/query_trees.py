"""PostgreSQL's parse trees of statements: which functions a statement calls, and where.

PostgreSQL logs the tree of a query as `{NODE :field value ...}` with lists in parentheses (debug_print_parse).
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg2

TOKEN = re.compile(r'[{}()]|"(?:[^"\\]|\\.)*"|(?:[^\s{}()\\]|\\.)+', re.DOTALL)
QUERY = re.compile(r"\{QUERY\s.*", re.DOTALL)


@dataclass
class Node:
    """A node of a tree; each field has the words, lists and nodes that follow its name."""

    kind: str
    fields: dict[str, list[Any]] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return int(self.fields[name][0])

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all below it."""
        yield self
        for child in nodes(list(self.fields.values())):
            yield from child.walk()

    def walk_level(self) -> Iterator["Node"]:
        """Yield this node and all below it, but not what is in subqueries."""
        yield self
        for child in nodes(list(self.fields.values())):
            if child.kind != "QUERY":
                yield from child.walk_level()


def nodes(values: list[Any]) -> Iterator[Node]:
    """Yield the topmost nodes in nested lists."""
    for value in values:
        if isinstance(value, Node):
            yield value
        elif isinstance(value, list):
            yield from nodes(value)


def trees_of(url: str, statements: Iterable[str]) -> list[Node]:
    """Return the parse trees of statements, whose parameters are $1, $2, ..."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SET client_min_messages = log; SET debug_print_parse = on")
        trees = []
        for number, statement in enumerate(statements):
            del connection.notices[:]
            cursor.execute(f"PREPARE shown_{number} AS {statement}")
            found = [tree[0] for notice in connection.notices if (tree := QUERY.search(notice))]
            trees.append(parse(found[-1]))  # those before it are PREPARE's own
        return trees


def parse(text: str) -> Node:
    tokens = iter(TOKEN.findall(text))
    assert next(tokens) == "{"
    return parse_node(tokens)


def parse_node(tokens: Iterator[str]) -> Node:
    node = Node(next(tokens))
    values: list[Any] = []
    for token in tokens:
        if token == "}":
            return node
        if token.startswith(":"):
            values = node.fields.setdefault(token[1:], [])
        else:
            values.append(parse_value(token, tokens))
    raise ValueError("a node has no end")


def parse_value(token: str, tokens: Iterator[str]) -> Any:
    if token == "{":
        return parse_node(tokens)
    return list(parse_list(tokens)) if token == "(" else token


def parse_list(tokens: Iterator[str]) -> Iterator[Any]:
    for token in tokens:
        if token == ")":
            return
        yield parse_value(token, tokens)
