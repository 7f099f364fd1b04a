"""How the code may be built: who imports whom (CONTRIBUTING.md), and that `ownership` is the only door to tasks."""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from flask import Flask

import todo_api
from todo_api import auth, ownership

PACKAGE = Path(todo_api.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("**/*.py"))}
LONGEST_FUNCTION = 40

CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAY_IMPORT = {
    module: {name.strip("`") for name in names.split(", ")} - {"nothing"}
    for module, names in re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", CONTRIBUTING, re.MULTILINE)
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
VERBS = {"select", "insert", "update", "delete", "text"}
# Running SQL, and reaching what runs it. A mapping's `update` and a blueprint's `delete` are no queries.
DOORS = {
    "connect",
    "engine",
    "engines",
    "exec_driver_sql",
    "execute",
    "executemany",
    "executescript",
    "get_engine",
    "paginate",
    "query",
    "raw_connection",
    "scalar",
    "scalars",
    "session",
}
SQL = re.compile(
    r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|MERGE INTO)\b"
    r"|\b(?i:from|into|join|update)\s+(?:users|tasks)\b"
)


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None, int]]:
    """Every import as module, name and level of relation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name, node.level) for alias in node.names)


def own_imports(tree: ast.AST) -> set[str]:
    """The modules of the package that this one imports."""
    found = set()
    for module, name, _ in imports(tree):
        package, _, rest = module.partition(".")
        if package == "todo_api":
            found.add(rest or str(name))
    return found


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string but the docstrings; of an f-string its fixed parts."""
    documented = [node.body[0] for node in ast.walk(tree) if isinstance(node, Documented) and node.body]
    docstrings = {id(first.value) for first in documented if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def queries(tree: ast.AST) -> set[str]:
    """What in this code asks the database, or comes near it."""
    found = {text for text in texts(tree) if SQL.search(text)}
    for module, name, _ in imports(tree):
        if module.partition(".")[0] == "sqlalchemy" and (name is None or name in VERBS):
            found.add(f"import {module} {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            on_db = isinstance(node.value, ast.Name) and node.value.id == "db" and node.attr in VERBS
            if node.attr in DOORS or on_db:
                found.add(f".{node.attr}")
    return found


def models_used(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {str(name) for module, name, _ in imports(tree) if module == "todo_api.models"}
    return (names | attributes | imported) & {"Task", "User", "*", "__table__"}


def statements(tree: ast.Module) -> dict[str, str]:
    """The SQL constants of a module by name."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            [target] = node.targets
            assert isinstance(target, ast.Name)
            if target.id.isupper() and SQL.search(node.value.value):
                found[target.id] = node.value.value
    return found


def test_every_module_has_its_place_in_the_table() -> None:
    assert {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("**/*.py")} == {
        f"{module}.py" for module in MAY_IMPORT
    }


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"__init__"}))
def test_a_module_imports_what_the_table_says(module: str) -> None:
    assert own_imports(MODULES[module]) == MAY_IMPORT[module]


def test_a_module_imports_only_what_stands_above_it_in_the_table() -> None:
    modules = list(MAY_IMPORT)
    for module, names in MAY_IMPORT.items():
        assert names - {"__version__", "everything"} <= set(modules[: modules.index(module)]), module


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute_and_written_out(module: str) -> None:
    for imported, name, level in imports(MODULES[module]):
        assert level == 0, imported
        assert name != "*", imported
        assert imported.partition(".")[0] not in {"tests", "wsgi", "importlib"}
    assert "__import__" not in {node.id for node in ast.walk(MODULES[module]) if isinstance(node, ast.Name)}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from todo_api import tasks", {"tasks"}),
        ("from todo_api.models import Task", {"models"}),
        ("import todo_api.models as m", {"models"}),
        ("def f():\n    from todo_api.models import Task", {"models"}),
        ("import json\nfrom flask import Flask", set()),
    ],
)
def test_the_reader_of_imports_sees_each_way_to_write_one(code: str, found: set[str]) -> None:
    assert own_imports(ast.parse(code)) == found


# config and keys import nothing of the house and so reach no table; a URL's `query` is none.
@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"ownership", "database", "extensions", "config", "keys"}))
def test_the_database_is_asked_in_ownership_only(module: str) -> None:
    """But for what is nobody's: the revision of its schema, and which process answers."""
    allowed = {"health": {"SELECT version_num FROM alembic_version"}}
    allowed["prepared"] = {"SELECT pg_backend_pid()", ".execute"}
    assert queries(MODULES[module]) == allowed.get(module, set())


def test_the_database_module_runs_what_it_is_given_by_ownership_only() -> None:
    assert not [text for text in texts(MODULES["database"]) if SQL.search(text)]
    users = {module for module in MODULES if "Database(" in (PACKAGE / f"{module}.py").read_text(encoding="utf-8")}
    assert users == {"ownership"}


def test_the_extensions_say_nothing_to_the_database_but_pragmas() -> None:
    tree = MODULES["extensions"]
    assert queries(tree) == {".execute"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "execute":
            [statement] = node.args
            assert isinstance(statement, ast.Constant)
            assert str(statement.value).startswith("PRAGMA ")


@pytest.mark.parametrize(
    "code",
    [
        "from sqlalchemy import select",
        "from sqlalchemy.sql.expression import delete",
        "import sqlalchemy as sa",
        "db.session.get(model, key)",
        "db.select(model)",
        "model.query.all()",
        "connection.execute(statement)",
        "db.engine.connect()",
        "with engine.connect() as connection: pass",
        "SQL = 'DELETE FROM anything'",
        "SQL = 'select title from tasks'",
        "SQL = f'SELECT {columns} FROM {table}'",
        "def f():\n    '''Do it.'''\n    return 'select 1 from users'",
    ],
)
def test_the_reader_of_queries_sees_each_way_to_write_one(code: str) -> None:
    assert queries(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["app.config.update(x)", "blueprint.delete('/x')", "def f():\n    '''Read FROM tasks.'''", "own.update(1)"]
)
def test_the_reader_of_queries_leaves_other_code_alone(code: str) -> None:
    assert queries(ast.parse(code)) == set()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"models"}))
def test_the_models_are_used_nowhere_else(module: str) -> None:
    assert models_used(MODULES[module]) == set()


def test_every_statement_names_the_owner() -> None:
    found = statements(MODULES["ownership"])
    assert found.keys() > {"EXISTS", "LIST", "GET", "UPDATE", "DELETE"}
    for name, sql in found.items():
        assert name == "EXISTS" or "%(user_id)s" in sql, name
        for condition in re.findall(r"FROM tasks WHERE (.*)|UPDATE tasks .*? WHERE (.*)", sql, re.DOTALL):
            assert name == "EXISTS" or "".join(condition).startswith("user_id = %(user_id)s"), name


def test_there_is_no_statement_but_those_named_at_the_top_of_ownership() -> None:
    assert {text for text in texts(MODULES["ownership"]) if SQL.search(text)} == set(
        statements(MODULES["ownership"]).values()
    )


def test_the_look_at_any_ones_task_returns_no_column_and_is_taken_in_one_place() -> None:
    assert ownership.EXISTS.startswith("SELECT 1 FROM tasks WHERE ")
    used_in = [
        function.name
        for function in functions(MODULES["ownership"])
        if "EXISTS" in {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    ]
    assert used_in == ["_own"]


def test_the_helper_cannot_be_made_without_a_user(app: Flask) -> None:
    with app.app_context(), pytest.raises(TypeError, match="user_id"):
        ownership.OwnedTasks()  # type: ignore[call-arg]  # what the types forbid is tried


def test_every_view_under_api_lets_in_the_users_of_good_tokens_only(app: Flask) -> None:
    """The guard is under the route decorator: above it the route would be open."""

    def view() -> None: ...

    guard = auth.jwt_required(view).__code__
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api")]
    assert len(rules) >= 5
    for rule in rules:
        guarded = app.view_functions[rule.endpoint]
        assert hasattr(guarded, "__wrapped__"), rule
        assert guarded.__code__ is guard, rule
        assert guarded.__wrapped__.__code__ is not guard, rule


@pytest.mark.parametrize("module", MODULES)
def test_every_function_is_annotated(module: str) -> None:
    for function in functions(MODULES[module]):
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
        bare = [
            argument.arg
            for argument in chain(named, extra)
            if argument.annotation is None and argument.arg not in {"self", "cls"}
        ]
        assert not bare, function.name
        assert function.returns is not None, function.name


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_long(module: str) -> None:
    for function in functions(MODULES[module]):
        assert (function.end_lineno or 0) - function.lineno < LONGEST_FUNCTION, function.name
